"""Does training with refinement pay? Accuracy of first and refined answers on held-out problems, over seeds.

On the same held-out problems, with every answer refined (no gate), a seed scores the untrained policy, one trained with
`credit: joint` and critiques, one with `credit: joint` and no critiques, and one trained without refinement. The last
is scored twice on its way: when it has sampled as many tokens (prompts and completions) as either of the others.

python benchmarks/refine_training.py                     # three seeds
python benchmarks/refine_training.py --seeds 1 trainer.steps=4 evaluation.n_heldout=20   # a look at it
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from astune.report.environment import environment
from astune.report.metrics import answers, is_solved, sampled_tokens
from astune.report.run_folder import RunFolder
from astune.report.statistics import paired_difference, wilson_interval

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results" / "refine_training.json"
CONF = "tutorial/example_self_refine/self_refine.yaml"
LIMIT_SECONDS = 3600
MODES = ("sampled", "greedy")
#: Runs with refinement, by name, and what sets them apart.
VARIANTS = {"joint": (), "joint_no_critique": ("refine.use_critique=false",)}


def train(name: str, seed: int, work: Path, overrides: Sequence[str]) -> RunFolder:
    """One run of the command in a process of its own."""
    command = [sys.executable, "-m", "astune.cli", "--conf", CONF, f"seed={seed}", f"save_dir={work}", f"name={name}"]
    done = subprocess.run(
        [*command, *overrides], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return RunFolder(name, work)


def tokens(folder: RunFolder) -> float:
    """Prompt and completion tokens that a run sampled in training."""
    return sum(sampled_tokens(row) for row in folder.read_metrics())


def steps_of_equal_tokens(refined: RunFolder) -> int:
    """Steps without refinement that sample as many tokens as the run with it did."""
    rows = refined.read_metrics()
    first_answers = fmean(row["prompt_tokens"] + row["completion_tokens"] for row in rows)
    return round(tokens(refined) / first_answers)


def solved(folder: RunFolder, step: int, mode: str, turn: int) -> dict[str, bool]:
    """Which held-out problems the answer of ``turn`` solved (1: first answers, 2: refined ones)."""
    episodes = folder.read_evaluation_episodes(step, mode)
    chosen = answers(episodes) if turn == 1 else [e for e in episodes if e.role == "refine" and e.round == turn - 1]
    return {episode.task_id: is_solved(episode) for episode in chosen}


def last_step(folder: RunFolder) -> int:
    """The last step that was evaluated."""
    return max(evaluation.step for evaluation in folder.read_evaluations())


def run_seed(seed: int, work: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Trains all policies of a seed and scores them."""
    refined = {
        name: train(f"{name}_{seed}", seed, work, [*overrides, "evaluation.every=10", *differs])
        for name, differs in VARIANTS.items()
    }
    result: dict[str, Any] = {"seed": seed, "runs": {}, **{mode: {} for mode in MODES}}
    # The shorter one first: the run without refinement goes on from there.
    for name, run in sorted(refined.items(), key=lambda item: tokens(item[1])):
        steps = steps_of_equal_tokens(run)
        alone = ["refine.train=false", "evaluation.every=0", f"trainer.steps={steps}"]
        plain = train(f"plain_{seed}", seed, work, [*overrides, *alone])
        result["runs"][name] = {
            "steps": last_step(run),
            "tokens": tokens(run),
            "steps_without_refinement": steps,
            "tokens_without_refinement": tokens(plain),
            "curve": [row.to_row() for row in run.read_evaluations()],
        }
        for mode in MODES:
            result[mode] |= {
                "untrained_t1": solved(run, 0, mode, 1),
                f"untrained_{name}_t2": solved(run, 0, mode, 2),
                f"{name}_t1": solved(run, last_step(run), mode, 1),
                f"{name}_t2": solved(run, last_step(run), mode, 2),
                f"plain_for_{name}_t1": solved(plain, steps, mode, 1),
            }
    return result


def rates(by_problem: dict[str, dict[str, bool]]) -> dict[str, Any]:
    """Accuracy of each policy and attempt with its Wilson interval."""
    found = {}
    for name, outcome in by_problem.items():
        hits, n = sum(outcome.values()), len(outcome)
        found[name] = {"rate": hits / n, "n": n, "ci95": list(wilson_interval(hits, n))}
    return found


def compare(runs: Sequence[dict[str, Any]], mode: str, before: str, after: str) -> dict[str, Any]:
    """Paired difference over all problems and seeds, and a seed at a time."""

    def pairs(chosen: Sequence[dict[str, Any]]) -> tuple[list[bool], list[bool]]:
        found = [(run[mode][before][task], ok) for run in chosen for task, ok in run[mode][after].items()]
        return [b for b, _ in found], [a for _, a in found]

    by_seed = [paired_difference(*pairs([run])).difference for run in runs]
    return asdict(paired_difference(*pairs(runs))) | {"by_seed": by_seed}


def document(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Everything that is kept: rates a seed, differences over seeds."""
    return {
        "environment": environment(),
        "load_average": os.getloadavg(),
        "command": f"astuner --conf {CONF} seed=K",
        "runs": [run | {mode: rates(run[mode]) for mode in MODES} for run in runs],
        "differences": {
            name: {
                mode: {
                    "Acc@t2 - untrained Acc@t2": compare(runs, mode, f"untrained_{name}_t2", f"{name}_t2"),
                    "Acc@t2 - Acc@t1 without refinement": compare(runs, mode, f"plain_for_{name}_t1", f"{name}_t2"),
                    "Acc@t2 - Acc@t1": compare(runs, mode, f"{name}_t1", f"{name}_t2"),
                    "Acc@t1 - untrained Acc@t1": compare(runs, mode, "untrained_t1", f"{name}_t1"),
                }
                for mode in MODES
            }
            for name in VARIANTS
        },
    }


def show(run: dict[str, Any]) -> None:
    """One line a mode and seed."""
    for mode in MODES:
        shown = "  ".join(f"{name} {one['rate']:.3f}" for name, one in rates(run[mode]).items())
        print(f"seed {run['seed']} {mode}: {shown}", flush=True)


def main() -> None:
    """Runs all seeds and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the run folders here")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    arguments = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        work = (arguments.keep or Path(scratch)).resolve()
        for seed in range(arguments.seeds):
            runs.append(run_seed(seed, work, arguments.overrides))
            show(runs[-1])
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(document(runs), indent=1))


if __name__ == "__main__":
    main()
