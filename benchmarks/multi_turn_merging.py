"""Multi-turn episodes: tokens forwarded and trained, with and without merging turns by exact prefix.

One batch of 64 two-turn tool episodes of the bundled model is rolled out under three settings of the
engine, then counted as training rows in four forms. Counts are exact and the same on every machine;
the times are process CPU seconds of one forward and backward pass on one thread.

    python benchmarks/multi_turn_merging.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from astune.backbone.assemble import RunParts, run_parts
from astune.config import load_config
from astune.report.environment import environment
from astune.rollout.engine import LocalEngine
from astune.task_reader.registry import read_tasks
from astune.trace import Episode, Trajectory, Turn
from astune.trainer.packing import TrainRow, pack, plan
from astune.trainer.policy_forward import token_logps

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results" / "multi_turn_merging.json"
CONF = ROOT / "tutorial" / "example_math_agent" / "math_agent.yaml"
WORKFLOWS = {
    "AgentScope": "tutorial.example_math_agent.math_agent->ExampleMathLearn",
    "plain": "tutorial.example_math_agent.math_agent_plain->PlainMathLearn",
}
ENGINES = {
    "turns continue cached turns, prompts shared": {"reuse_cache": True, "share_prefill": True},
    "prompts shared": {"reuse_cache": False, "share_prefill": True},
    "neither": {"reuse_cache": False, "share_prefill": False},
}
PROMPTS, GROUP = 8, 8
BUDGET = 4608


def roll_out(parts: RunParts, options: dict[str, bool]) -> tuple[list[Episode], dict[str, float]]:
    """One batch of episodes, and what the engine forwarded for them."""
    engine = LocalEngine(parts.model, max_batch=PROMPTS * GROUP, **options)
    parts.runner.engine = engine
    tasks = read_tasks(parts.config.task_reader)[:PROMPTS]
    groups = asyncio.run(parts.runner.run_groups(tasks, GROUP))
    stats = engine.stats()
    forwarded = stats["prefill_tokens"] + stats["decode_tokens"]
    counts = {name: stats[name] for name in ("prompt_tokens", "prefill_tokens", "decode_tokens", "cached_tokens")}
    return [episode for group in groups for episode in group.episodes], counts | {"forwarded": forwarded}


def merged_rows(episodes: Sequence[Episode]) -> list[TrainRow]:
    """A row a trajectory: turns that extend each other are one sequence."""
    return [TrainRow(t, 1.0, n // GROUP) for n, episode in enumerate(episodes) for t in episode.trajectories]


def turn_rows(episodes: Sequence[Episode]) -> list[TrainRow]:
    """A row a turn, as trainers do that take (prompt, completion) pairs."""
    return [TrainRow(_alone(turn), 1.0, n // GROUP) for n, episode in enumerate(episodes) for turn in episode.turns]


def _alone(turn: Turn) -> Trajectory:
    given = len(turn.prompt_ids)
    mask = [0] * given + [1] * len(turn.completion_ids)
    return Trajectory(turn.prompt_ids + turn.completion_ids, mask, [0.0] * given + turn.logprobs, [turn])


def count(rows: Sequence[TrainRow]) -> dict[str, int]:
    """Tokens of the rows one by one, padded to the longest, and with shared prefixes computed once."""
    lengths = [len(row.inputs) for row in rows]
    shared = sum(len(pack(rows, part).input_ids_N) for part in plan(rows, BUDGET))
    return {
        "rows": len(rows),
        "trained": sum(row.trained_tokens for row in rows),
        "forwarded_padded": max(lengths) * len(rows),
        "forwarded_row_by_row": sum(lengths),
        "forwarded_shared_prefixes": shared,
    }


def cpu_seconds(parts: RunParts, rows: Sequence[TrainRow], fast: bool) -> float:
    """CPU time of one forward and backward pass over all rows."""
    batches = [pack(rows, part) for part in plan(rows, BUDGET)]
    started = time.process_time()
    for batch in batches:
        token_logps(parts.model, batch, fast=fast).sum().backward()
    parts.model.zero_grad()
    return time.process_time() - started


def measure(workflow: str) -> dict[str, Any]:
    """Everything about one workflow."""
    config = load_config(CONF, [f"rollout.workflow={workflow}", "trainer.threads=1"])
    with run_parts(config) as parts:
        engines, episodes = {}, []
        for name, options in ENGINES.items():
            episodes, engines[name] = roll_out(parts, options)
        forms = {"merged": merged_rows(episodes), "a row a turn": turn_rows(episodes)}
        cpu_seconds(parts, forms["merged"], fast=True)  # warm-up
        training: dict[str, Any] = {name: count(rows) for name, rows in forms.items()}
        for name, rows in forms.items():
            training[name]["cpu_seconds_shared_prefixes"] = cpu_seconds(parts, rows, fast=True)
            training[name]["cpu_seconds_padded"] = cpu_seconds(parts, rows, fast=False)
    turns = sum(len(episode.turns) for episode in episodes)
    return {"episodes": len(episodes), "turns": turns, "rollout": engines, "training": training}


def main() -> None:
    """Measures both workflows and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    document = {"environment": environment(), "workflows": {name: measure(path) for name, path in WORKFLOWS.items()}}
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(document, indent=1))
    print(json.dumps(document["workflows"], indent=1))


if __name__ == "__main__":
    main()
