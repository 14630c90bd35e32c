"""One GRPO run of astune on the bundled model, timed step by step (a child of training_step.py).

Prints one JSON object: the seconds and the mean reward of every step.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml
from training_task import GROUP_SIZE, LEARNING_RATE, MAX_TOKENS, MAX_TURNS, PROMPTS_PER_STEP

WORKFLOWS = {"single": "SingleTurn", "agent": "ToolAgent"}


def configuration(task: str, steps: int, seed: int, threads: int, work: Path) -> dict[str, object]:
    """The run as a user would write it."""
    return {
        "name": "run",
        "seed": seed,
        "save_dir": str(work),
        "task_reader": {"type": "nano_gsm", "nano_gsm": {"n_train": steps * PROMPTS_PER_STEP, "seed": seed}},
        "rollout": {
            "workflow": f"training_workflows->{WORKFLOWS[task]}",
            "max_tokens": MAX_TOKENS,
            "max_turns": MAX_TURNS,
        },
        "trainer": {
            "steps": steps,
            "group_size": GROUP_SIZE,
            "prompts_per_step": PROMPTS_PER_STEP,
            "learning_rate": LEARNING_RATE,
            "threads": threads,
        },
        "evaluation": {"sampled": False, "greedy": False},
        "checkpoint": {"every": 10_000},
        "tracking": {"report": False},
    }


def main() -> None:
    """Runs one training and prints its record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=tuple(WORKFLOWS), required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, required=True, help="folder for the run")
    arguments = parser.parse_args()
    settings = configuration(arguments.task, arguments.steps, arguments.seed, arguments.threads, arguments.work)
    arguments.work.mkdir(parents=True, exist_ok=True)
    file = arguments.work / "run.yaml"
    file.write_text(yaml.safe_dump({"astune": settings}))

    from astune.cli import main as astuner

    status = astuner(["--conf", str(file), "--traceback"])
    if status != 0:
        raise SystemExit(status)
    rows = [json.loads(line) for line in (arguments.work / "run" / "metrics.jsonl").read_text().splitlines()]
    clock = [json.loads(line) for line in (arguments.work / "run" / "timings.jsonl").read_text().splitlines()]
    record = {
        "seconds": [row["seconds"] for row in clock],
        "rollout_seconds": [row["rollout_seconds"] for row in clock],
        "reward": [row["reward_mean"] for row in rows],
    }
    print("RESULT " + json.dumps(record))


if __name__ == "__main__":
    main()
