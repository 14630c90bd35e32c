"""Results of runs that tests need: an agent that solves some of the items."""

from __future__ import annotations

from autorl_bench.leaderboard import Evaluated, RunResult
from autorl_bench.types import Outcome


def solved(first: int, of: int = 100, baseline: int = 30, draw: str = "fixed") -> Evaluated:
    """The submission solves the first ``first`` items of a draw, the base model the first ``baseline``."""
    items = tuple(f"{draw}-{index}" for index in range(of))
    return Evaluated(items, tuple(float(i < first) for i in range(of)), tuple(float(i < baseline) for i in range(of)))


def run(agent: str, seed: int, first: int | None = 50, **values: object) -> RunResult:
    """A scored run with its own draw of items; ``first=None`` is a run without a score (give ``outcome``)."""
    evaluated = None if first is None else solved(first, draw=f"seed{seed}")
    return RunResult(agent, "nano", seed, values.pop("outcome", Outcome.SCORED), evaluated, **values)
