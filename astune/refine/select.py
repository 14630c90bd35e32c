"""Which attempt of a finished loop is its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from astune.refine.loop_state import Attempt, C, Score, State

#: Chooses among the valid attempts, of which there is at least one.
Selector = Callable[[State[Any, Any]], Attempt[Any]]


def valid_attempts(state: State[C, Any]) -> list[Attempt[C]]:
    """The attempts that may be chosen, in order."""
    return [attempt for attempt in state.attempts if attempt.score.valid]


def keep_best(state: State[C, Any]) -> Attempt[C]:
    """The highest score; the first of equals."""
    assert state.best is not None
    return state.best


def keep_last(state: State[C, Any]) -> Attempt[C]:
    """The best attempt of the latest round with a valid one: for loops whose scores say little."""
    assert state.last is not None
    return state.last


def keep_majority(same: Callable[[C, C], bool]) -> Selector:
    """The first attempt of the largest class of equal ones (self-consistency, Wang et al. 2022, arXiv:2203.11171).

    Args:
        same: whether two candidates agree. An attempt joins the first class whose first member it agrees with.
    """

    def select(state: State[C, Any]) -> Attempt[C]:
        return max(classes_of(valid_attempts(state), same), key=len)[0]

    return select


def classes_of(attempts: Sequence[Attempt[C]], same: Callable[[C, C], bool]) -> list[list[Attempt[C]]]:
    """Attempts by agreement, in order of first appearance."""
    classes: list[list[Attempt[C]]] = []
    for attempt in attempts:
        for members in classes:
            if same(members[0].candidate, attempt.candidate):
                members.append(attempt)
                break
        else:
            classes.append([attempt])
    return classes


def keep_rescored(state: State[C, Any], scores: Sequence[Score]) -> Attempt[C]:
    """The valid attempt that an independent scorer puts first; the first of equals.

    Where that scorer masks all of them, the best by the loop's own.

    Args:
        state: of the finished loop.
        scores: one for each valid attempt, in order.
    """
    ranked = max(zip(valid_attempts(state), scores, strict=True), key=lambda pair: pair[1].value)
    return ranked[0] if ranked[1].valid else keep_best(state)
