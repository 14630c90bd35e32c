"""Stop conditions: each alone, and combined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astune.errors import ConfigError
from astune.refine.loop import refine
from astune.refine.loop_state import Metered, Score, State, Usage
from astune.refine.stop import Cost, NoGain, Rounds, ScoreReached, Seconds, StopCondition, Tokens, Verdict


@dataclass(frozen=True)
class Says(StopCondition):
    """Ends where it is told to."""

    word: str | None

    def _reason(self, state: State[Any, Any]) -> str | None:
        return self.word


def rounds_until(
    stop: StopCondition, scores: list[float] | None = None, verdicts: dict[int, bool] | None = None
) -> int:
    """Rounds of a loop whose round costs 10 sampled tokens, 5 read, 0.25 money, and 2 seconds."""

    def evaluate(state, _):
        number = len(state.rounds)
        return [Score(scores[number - 1] if scores else 0.0, verdict=(verdicts or {}).get(number))]

    def generate(_):
        return [Metered("x", Usage(10, 5, 0.25))]

    result = refine(generate, evaluate, stop=stop | Rounds(20), clock=count().__next__)
    return len(result.state.rounds)


@pytest.mark.parametrize(
    ("stop", "rounds"),
    [
        (Rounds(3), 3),
        (Tokens(21), 3),
        (Tokens(30, prompts=True), 2),
        (Seconds(6), 3),
        (Cost(1.0), 4),
        (NoGain(4), 5),
        (Rounds(5) & Tokens(20), 5),
        (Rounds(5) | Tokens(20), 2),
        (Rounds(7) & NoGain(2) | Cost(2.0), 7),
    ],
)
def test_a_loop_ends_where_its_condition_says(stop, rounds):
    assert rounds_until(stop) == rounds


def test_a_threshold_ends_the_loop_with_the_round_that_reaches_it():
    assert rounds_until(ScoreReached(0.9), [0.1, 0.9, 1.0]) == 2


def test_rounds_without_gain_are_counted_from_the_last_gain():
    assert rounds_until(NoGain(2), [1.0, 0.0, 2.0, 2.0, 1.0, 9.0]) == 5


def test_a_masked_round_is_one_without_gain():
    assert rounds_until(NoGain(2), [1.0, math.nan, math.nan, 9.0]) == 3


def test_only_a_positive_verdict_ends_the_loop():
    assert rounds_until(Verdict(), verdicts={1: False, 3: True}) == 3


@settings(deadline=None)
@given(st.sampled_from([None, "a"]), st.sampled_from([None, "b"]))
def test_and_needs_both_or_needs_one(one, other):
    state: State[Any, Any] = State()
    assert (Says(one) & Says(other))(state) == (f"{one} and {other}" if one and other else None)
    assert (Says(one) | Says(other))(state) == (one or other)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rounds(0),
        lambda: NoGain(0),
        lambda: Tokens(0),
        lambda: Seconds(0.0),
        lambda: Seconds(math.nan),
        lambda: Cost(-1.0),
        lambda: ScoreReached(math.nan),
    ],
)
def test_a_condition_that_could_not_be_met_or_always_is_refused(make):
    with pytest.raises(ConfigError):
        make()
