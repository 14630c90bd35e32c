"""Strategies: ways to spend several model calls on one question, all on the loop of :mod:`astune.refine.loop`."""

from __future__ import annotations

import difflib

from astune.errors import ConfigError
from astune.refine.strategies.common import MakeStrategy, Setting, Strategy
from astune.refine.strategies.reflexion import reflexion
from astune.refine.strategies.sampling import best_of_n, self_consistency
from astune.refine.strategies.self_refine import (
    independent_scorer,
    self_refine,
    self_refine_no_critique,
    verdict_gated,
)

__all__ = ["STRATEGIES", "Setting", "Strategy", "make_strategy", "strategy_named"]

STRATEGIES: dict[str, MakeStrategy] = {
    "self_refine": self_refine,
    "self_refine_no_critique": self_refine_no_critique,
    "best_of_n": best_of_n,
    "self_consistency": self_consistency,
    "reflexion": reflexion,
    "independent_scorer": independent_scorer,
    "verdict_gated": verdict_gated,
}


def strategy_named(name: str) -> MakeStrategy:
    """What makes the strategy of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in STRATEGIES:
        near = difflib.get_close_matches(name, STRATEGIES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the strategies are {', '.join(STRATEGIES)}"
        raise ConfigError(f"unknown strategy {name!r}; {hint}")
    return STRATEGIES[name]


def make_strategy(name: str, setting: Setting) -> Strategy:
    """The strategy of that name.

    Raises:
        ConfigError: there is none, or the setting lacks what it needs.
    """
    return strategy_named(name)(setting)
