"""Strategies that improve the last attempt: with and without a critique, gated by the critic, and by another model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from astune.errors import ConfigError
from astune.refine.loop_state import Attempt, Metered, Reflection, Score
from astune.refine.select import keep_best, keep_last
from astune.refine.stop import StopCondition, Verdict
from astune.refine.strategies.common import Setting, Strategy, TextState, nonempty


def self_refine(setting: Setting) -> Strategy:
    """Answer, critique, refine, critique, refine, ...: the last attempt is the answer (Madaan et al., 2023).

    Every round is taken, whatever the critic thinks of the attempt.
    """
    return _criticised(setting, setting.limit)


def verdict_gated(setting: Setting) -> Strategy:
    """As :func:`self_refine`, but an attempt that the critic calls correct is the answer."""
    return _criticised(setting, setting.limit | Verdict())


def _criticised(setting: Setting, stop: StopCondition) -> Strategy:
    async def reflect(state: TextState, attempt: Attempt[str]) -> Reflection[str]:
        reply, verdict = await setting.critique(attempt.candidate, len(state.rounds))
        return Reflection(reply.text, verdict, reply.usage)

    return Strategy(_improve(setting), nonempty, stop, keep_last, reflect)


def self_refine_no_critique(setting: Setting) -> Strategy:
    """The refiner looks at the attempt alone, in one stage."""
    return Strategy(_improve(setting), nonempty, setting.limit, keep_last)


def independent_scorer(setting: Setting) -> Strategy:
    """Another model judges every attempt and says what is wrong; the best by its score is the answer.

    A scorer that shares the generator's weights shares its mistakes, and confirms them. Ends with the first attempt
    that the judge calls correct, for nothing scores higher.

    Raises:
        ConfigError: there is no judge.
    """
    judge = setting.judge
    if judge is None:
        raise ConfigError("the strategy independent_scorer needs a second model as judge: name one with --judge")

    async def evaluate(state: TextState, candidates: list[str]) -> list[Score]:
        return await setting.scored_by(judge, state, candidates)

    return Strategy(_improve(setting), evaluate, setting.limit | Verdict(), keep_best, pass_feedback_on)


async def pass_feedback_on(_: TextState, attempt: Attempt[str]) -> Reflection[str]:
    """The scorer's feedback is the reflection."""
    return Reflection(attempt.score.feedback or "")


def _improve(setting: Setting) -> Callable[[TextState], Awaitable[list[Metered[str]]]]:
    async def generate(state: TextState) -> list[Metered[str]]:
        if state.last is None:
            return await setting.answer(state)
        return await setting.refine(state.last.candidate, state.reflection, len(state.rounds))

    return generate
