"""The main job under several seeds: success and bad habits on held-out problems, before and after.

python benchmarks/main_job.py            # three seeds, a few minutes each on two cores
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from astune.report.environment import environment

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results" / "main_job.json"
CONF = "tutorial/example_math_agent/math_agent.yaml"
LIMIT_SECONDS = 3600


def train(seed: int, work: Path, overrides: list[str]) -> dict[str, Any]:
    """One run of the command in a process of its own; returns its summary and its rewards."""
    folder = work / f"seed_{seed}"
    command = [sys.executable, "-m", "astune.cli", "--conf", CONF, f"seed={seed}", f"save_dir={folder}"]
    done = subprocess.run(
        [*command, *overrides], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    if done.returncode:
        raise SystemExit(f"seed {seed} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    summary: dict[str, Any] = json.loads((folder / "math_agent" / "summary.json").read_text())
    rows = (folder / "math_agent" / "metrics.jsonl").read_text().splitlines()
    summary.pop("environment", None)
    return summary | {"reward_curve": [round(json.loads(row)["reward_mean"], 4) for row in rows]}


def main() -> None:
    """Runs all seeds and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the run folders here")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = (arguments.keep or Path(scratch)).resolve()
        runs = [report(train(seed, work, arguments.overrides)) for seed in range(arguments.seeds)]
    write(runs, arguments.out)


def report(run: dict[str, Any]) -> dict[str, Any]:
    """Says in a line how a run went, and passes it on."""
    print(
        f"seed {run['seed']}: sampled {run['success_before']:.3f} -> {run['success_after']:.3f}, "
        f"greedy {run['greedy_before']:.3f} -> {run['greedy_after']:.3f}, {run['train_seconds']:.0f} s",
        flush=True,
    )
    return run


def write(runs: list[dict[str, Any]], out: Path) -> None:
    """Writes all runs and their means."""
    names = ("success_before", "success_after", "greedy_before", "greedy_after", "train_seconds", "peak_rss_bytes")
    document = {
        "environment": environment(),
        "load_average": os.getloadavg(),
        "command": f"astuner --conf {CONF} seed=K",
        "mean": {name: statistics.fmean(run[name] for run in runs) for name in names},
        "worst_success_after": min(run["success_after"] for run in runs),
        "runs": runs,
    }
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
