"""Strategies of independent attempts: the best by a critic, and the one that most agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from astune.refine.loop_state import MASKED, Score, State
from astune.refine.select import classes_of, keep_majority, valid_attempts
from astune.refine.stop import ScoreReached, StopCondition
from astune.refine.strategies.common import VERDICT_SCORES, Setting, Strategy, TextState
from astune.task_judge.answer_text import committed_answer
from astune.task_judge.math_answer_as_judge import answers_match


def best_of_n(setting: Setting) -> Strategy:
    """One independent attempt a round; the first with the highest score is the answer.

    The critic's verdict is the score (the judge's, where there is one). No attempt can beat one that the critic calls
    correct, so the first of those ends the loop: the choice is the same, and cheaper.
    """

    async def evaluate(state: TextState, candidates: list[str]) -> list[Score]:
        return await setting.scored_by(setting.judge or setting.model, state, candidates)

    return Strategy(setting.answer, evaluate, setting.limit | ScoreReached(VERDICT_SCORES[True]))


def self_consistency(setting: Setting) -> Strategy:
    """One independent attempt a round; the answer is what most of them say (Wang et al., 2022).

    An attempt without a final answer has no vote. Ends early once no other answer can catch up.
    """
    select = keep_majority(agree)
    return Strategy(setting.answer, _has_answer, setting.limit | MajorityDecided(setting.rounds), select)


def agree(one: str, other: str) -> bool:
    """Whether two texts commit to the same answer, as the judge of the math agent compares them."""
    return answers_match(one, committed_answer(other) or "") is True


@dataclass(frozen=True, slots=True)
class MajorityDecided(StopCondition):
    """Ends once the leading answer keeps its lead even if all votes still to come go to another.

    A tie goes to the answer that was first, so the leader must lead by more than the rounds that are left.
    """

    rounds: int

    def _reason(self, state: State[Any, Any]) -> str | None:
        sizes = sorted((len(members) for members in classes_of(valid_attempts(state), agree)), reverse=True)
        lead = sizes[0] - (sizes[1] if len(sizes) > 1 else 0) if sizes else 0
        return "the majority is decided" if lead > self.rounds - len(state.rounds) else None


async def _has_answer(_: TextState, candidates: Sequence[str]) -> list[Score]:
    return [
        Score(0.0) if committed_answer(text) is not None else Score(MASKED, reason="it commits to no answer")
        for text in candidates
    ]
