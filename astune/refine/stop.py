"""When a refinement loop ends. Conditions combine: ``Rounds(5) & NoGain(2) | Tokens(4000) | Verdict()``.

A condition is a function of the state alone, so it can be shared by loops that run at once, and a replayed record
ends where the run did.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from astune.errors import ConfigError
from astune.refine.loop_state import State


class StopCondition(ABC):
    """Says why a loop ends. ``a & b`` ends where both do, ``a | b`` where either does."""

    @abstractmethod
    def _reason(self, state: State[Any, Any]) -> str | None: ...

    def __call__(self, state: State[Any, Any]) -> str | None:
        """Why to end now; None to go on."""
        return self._reason(state)

    def __and__(self, other: StopCondition) -> StopCondition:
        return _Both(self, other)

    def __or__(self, other: StopCondition) -> StopCondition:
        return _Either(self, other)


@dataclass(frozen=True, slots=True)
class _Both(StopCondition):
    one: StopCondition
    other: StopCondition

    def _reason(self, state: State[Any, Any]) -> str | None:
        reasons = self.one(state), self.other(state)
        return None if None in reasons else " and ".join(map(str, reasons))


@dataclass(frozen=True, slots=True)
class _Either(StopCondition):
    one: StopCondition
    other: StopCondition

    def _reason(self, state: State[Any, Any]) -> str | None:
        return self.one(state) or self.other(state)


@dataclass(frozen=True, slots=True)
class Rounds(StopCondition):
    """Ends after ``limit`` rounds, before reflecting on the last.

    Raises:
        ConfigError: fewer than one round.
    """

    limit: int

    def __post_init__(self) -> None:
        _at_least_one("rounds", self.limit)

    def _reason(self, state: State[Any, Any]) -> str | None:
        return f"{self.limit} rounds" if len(state.rounds) >= self.limit else None


@dataclass(frozen=True, slots=True)
class ScoreReached(StopCondition):
    """Ends once the best score is at least ``threshold``."""

    threshold: float

    def __post_init__(self) -> None:
        if math.isnan(self.threshold):
            raise ConfigError("the score threshold is nan: no score reaches it")

    def _reason(self, state: State[Any, Any]) -> str | None:
        reached = state.best is not None and state.best.score.value >= self.threshold
        return f"score {self.threshold:g} reached" if reached else None


@dataclass(frozen=True, slots=True)
class NoGain(StopCondition):
    """Ends after ``rounds`` rounds in a row that did not raise the best score."""

    rounds: int

    def __post_init__(self) -> None:
        _at_least_one("rounds without gain", self.rounds)

    def _reason(self, state: State[Any, Any]) -> str | None:
        return f"no gain for {self.rounds} rounds" if state.rounds_without_gain >= self.rounds else None


@dataclass(frozen=True, slots=True)
class Tokens(StopCondition):
    """Ends once ``budget`` tokens were sampled (with ``prompts``: sampled or read).

    It is asked between calls, so the call that crosses the line is finished and counted.
    """

    budget: int
    prompts: bool = False

    def __post_init__(self) -> None:
        _at_least_one("token budget", self.budget)

    def _reason(self, state: State[Any, Any]) -> str | None:
        used = state.usage
        spent = used.tokens + (used.prompt_tokens if self.prompts else 0)
        return f"{self.budget} tokens used" if spent >= self.budget else None


@dataclass(frozen=True, slots=True)
class Seconds(StopCondition):
    """Ends once the steps took ``budget`` seconds together."""

    budget: float

    def __post_init__(self) -> None:
        _positive("time budget", self.budget)

    def _reason(self, state: State[Any, Any]) -> str | None:
        return f"{self.budget:g} seconds used" if state.seconds >= self.budget else None


@dataclass(frozen=True, slots=True)
class Cost(StopCondition):
    """Ends once ``budget`` was spent, in the unit that the calls report."""

    budget: float

    def __post_init__(self) -> None:
        _positive("cost budget", self.budget)

    def _reason(self, state: State[Any, Any]) -> str | None:
        return f"cost {self.budget:g} reached" if state.usage.cost >= self.budget else None


@dataclass(frozen=True, slots=True)
class Verdict(StopCondition):
    """Ends once the critic calls the round's best attempt correct."""

    def _reason(self, state: State[Any, Any]) -> str | None:
        return "the critic is satisfied" if state.verdict else None


def _at_least_one(what: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{what} is {value}: give at least 1")


def _positive(what: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{what} is {value}: give a number above 0")
