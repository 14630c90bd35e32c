"""Agents that do nothing wrong; each must get its score, and no flag."""

from __future__ import annotations

from collections.abc import Callable

from autorl_bench.redteam.arena import Arena
from autorl_bench.redteam.attacks import training
from autorl_bench.redteam.inside import Report
from autorl_bench.redteam.types import Honest, Seen


def _agent(attack: Callable[[Report], None]) -> Honest:
    def run(arena: Arena) -> Seen:
        return arena.run_agent(attack, wall_seconds=240, cpu_seconds=480)

    return Honest(attack.__name__, (attack.__doc__ or "").strip(), run)


HONEST = (_agent(training.honest_training), _agent(training.honest_without_a_word))
