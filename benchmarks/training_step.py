"""End-to-end GRPO steps: astune against TRL's GRPOTrainer on the same model, problems, reward and batch.

Two jobs. ``single``: one completion a prompt, rewarded by a function of its text, so both trainers do
the same work. ``agent``: the multi-turn tool agent, on TRL's side through ``tools=``; both call the
same sandbox. A step is timed from its first prompt to the end of its optimiser step. Runs of the two
alternate, each in a process of its own, so that a slow minute of the machine hits both.

    python benchmarks/training_step.py                 # about 15 minutes on two quiet cores
    python benchmarks/training_step.py --seeds 1 --steps 10 --tasks single
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

HERE = Path(__file__).parent
RESULT = HERE / "results" / "training_step.json"
SCRIPTS = {"astune": "ours_grpo.py", "trl": "peer_trl.py"}
#: Steps left out of the timing: first-use costs (allocation, imports) are not what a training pays.
WARM_UP = 3
LIMIT_SECONDS = 3600


def run(trainer: str, task: str, seed: int, steps: int, threads: int) -> dict[str, Any]:
    """One training in a process of its own; returns its record."""
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, SCRIPTS[trainer], "--task", task, "--steps", str(steps), "--seed", str(seed)]
        command += ["--threads", str(threads), "--work", work]
        environ = os.environ | {"HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            command, cwd=HERE, env=environ, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise SystemExit(f"{trainer} on {task} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    record: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return record


def compare(task: str, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians, their ratio a seed, and the rewards of both trainers at the end of training."""
    medians = {
        name: [statistics.median(record["seconds"][WARM_UP:]) for record in records] for name, records in runs.items()
    }
    ratios = [theirs / ours for theirs, ours in zip(medians["trl"], medians["astune"], strict=True)]
    last = {name: [statistics.fmean(record["reward"][-10:]) for record in records] for name, records in runs.items()}
    return {
        "task": task,
        "steps": len(runs["astune"][0]["seconds"]),
        "median_step_seconds": medians,
        "speedup_per_seed": ratios,
        "speedup_median": statistics.median(ratios),
        "speedup_range": [min(ratios), max(ratios)],
        "reward_of_last_10_steps": last,
        "runs": runs,
    }


def main() -> None:
    """Runs everything and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=("single", "agent"), default=["single", "agent"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    results = []
    for task in arguments.tasks:
        runs: dict[str, list[dict[str, Any]]] = {"astune": [], "trl": []}
        for seed in range(arguments.seeds):
            order = ("trl", "astune") if seed % 2 == 0 else ("astune", "trl")
            for trainer in order:
                runs[trainer].append(run(trainer, task, seed, arguments.steps, arguments.threads))
                seconds = statistics.median(runs[trainer][-1]["seconds"][WARM_UP:])
                print(f"{task} seed {seed} {trainer}: {seconds:.3f} s a step", flush=True)
        results.append(compare(task, runs))
        print(f"{task}: {results[-1]['speedup_median']:.2f} times TRL, range {results[-1]['speedup_range']}")
    arguments.out.parent.mkdir(exist_ok=True)
    load = os.getloadavg()
    document = {"environment": environment(), "load_average": load, "results": results}
    arguments.out.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
