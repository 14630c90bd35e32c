"""The refinement loop: generate, score, reflect, and keep the best (Self-Refine, Madaan et al. 2023, arXiv:2303.17651).

Generic in the candidate and in what the reflector says, and free of input and output: :func:`loop_steps` asks and is
answered. :func:`refine` and :func:`arefine` answer it with functions and with coroutine functions.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias

from astune.refine.loop_state import (
    AllInvalidError,
    Attempt,
    C,
    F,
    Metered,
    RecordedError,
    Reflection,
    Round,
    Score,
    State,
)
from astune.refine.select import Selector, keep_best, keep_rescored
from astune.refine.stop import StopCondition

Clock = Callable[[], float]
#: Is told of each phase that has ended: ``generate``, ``evaluate``, ``reflect``, ``rescore``.
Watch = Callable[[str, State[Any, Any]], None]


@dataclass(frozen=True, slots=True)
class Generate(Generic[C, F]):
    """Asks for the round's candidates: a sequence of C or of ``Metered`` C."""

    state: State[C, F]


@dataclass(frozen=True, slots=True)
class Evaluate(Generic[C, F]):
    """Asks for one score a candidate: a sequence of float or :class:`Score`."""

    state: State[C, F]
    candidates: list[C]


@dataclass(frozen=True, slots=True)
class Reflect(Generic[C, F]):
    """Asks what to make of the round's best attempt: F or ``Reflection`` of F."""

    state: State[C, F]
    attempt: Attempt[C]


@dataclass(frozen=True, slots=True)
class Rescore(Generic[C, F]):
    """Asks an independent scorer, at the end, for a score of each valid candidate."""

    state: State[C, F]
    candidates: list[C]


Ask: TypeAlias = Generate[C, F] | Evaluate[C, F] | Reflect[C, F] | Rescore[C, F]


@dataclass(frozen=True, slots=True)
class Result(Generic[C, F]):
    """How a loop ended.

    Attributes:
        chosen: the selector's attempt; with ``rescore``, its score is the one that the loop saw.
        state: all rounds, and the best by the loop's own scorer.
        stopped: the stop condition's words, or ``failed``.
        error: why the last round, or scoring anew, failed; what was reached before stands.
        rescored: the independent scores of the valid attempts, in order; empty without ``rescore``.
    """

    chosen: Attempt[C]
    state: State[C, F]
    stopped: str
    error: str | None = None
    rescored: tuple[Score, ...] = ()

    @property
    def best_score_history(self) -> list[float]:
        """The best score after each attempt; it never falls."""
        history: list[float] = []
        for attempt in self.state.attempts:
            history.append(max(attempt.score.value, *history[-1:]) if history else attempt.score.value)
        return history

    @property
    def winners_curse(self) -> float | None:
        """By how much the loop's scorer flattered its own favourite: its score less the independent one.

        The highest of several noisy scores is high by luck, too, so this is positive on average. None without
        ``rescore``.
        """
        if not self.rescored or self.state.best is None:
            return None
        valid = [attempt.number for attempt in self.state.attempts if attempt.score.valid]
        return self.state.best.score.value - self.rescored[valid.index(self.state.best.number)].value


def loop_steps(
    *,
    stop: StopCondition,
    evaluates: bool = True,
    reflects: bool = True,
    rescores: bool = False,
    select: Selector = keep_best,
    failures: tuple[type[Exception], ...] = (Exception,),
    clock: Clock = time.monotonic,
    watch: Watch | None = None,
) -> Generator[Ask[Any, Any], Any, Result[Any, Any]]:
    """The loop as a generator: yields asks, is sent their answers (or thrown their exceptions), returns the result.

    A round is generate, evaluate, reflect; ``stop`` is asked after the second and after the third. A round without a
    valid candidate is recorded and the next one is made; a round that fails ends the loop, and the best so far
    stands.

    Args:
        stop: when to end, see :mod:`astune.refine.stop`.
        evaluates: without it every candidate scores 0, and ``select`` should not be by score.
        reflects: without it rounds are independent draws.
        rescores: at the end, ask for independent scores, and choose by those instead of ``select``.
        select: which attempt is the result, see :mod:`astune.refine.select`.
        failures: the exceptions that are a failed round; others pass through.
        clock: seconds; only differences count.
        watch: is called after each phase.

    Raises:
        AllInvalidError: a round without a valid candidate, and none before.
        Exception: one of ``failures``, where there is no valid candidate yet.
        ValueError: a scorer gave another number of scores than there are candidates.
    """
    loop = _Loop(stop, evaluates, reflects, failures, clock, watch or (lambda _phase, _state: None))
    state: State[Any, Any] = State()
    stopped = error = None
    while stopped is None:
        now: Round[Any, Any] = Round(len(state.rounds) + 1)
        state.rounds.append(now)
        try:
            stopped = yield from loop.round(state, now)
        except _PhaseFailed as failed:
            now.failed, now.error = failed.phase, str(failed)
            if state.best is None:
                raise failed.error from None
            stopped, error = "failed", now.error
    if not rescores:
        return Result(select(state), state, stopped, error)
    try:
        scores = yield from loop.rescore(state)
    except failures as failure:
        return Result(select(state), state, stopped, described(failure))
    return Result(keep_rescored(state, scores), state, stopped, error, tuple(scores))


def described(error: Exception) -> str:
    """An exception as the record keeps it."""
    return str(error) if isinstance(error, RecordedError) else f"{type(error).__name__}: {error}"


class _PhaseFailed(Exception):
    """The answer to an ask was an exception."""

    def __init__(self, phase: str, error: Exception) -> None:
        super().__init__(described(error))
        self.phase = phase
        self.error = error


@dataclass(frozen=True, slots=True)
class _Loop:
    """The phases of a round."""

    stop: StopCondition
    evaluates: bool
    reflects: bool
    failures: tuple[type[Exception], ...]
    clock: Clock
    watch: Watch

    def round(self, state: State[Any, Any], now: Round[Any, Any]) -> Generator[Ask[Any, Any], Any, str | None]:
        """Runs one round; returns why the loop ends, if it does."""
        made = yield from self._timed("generate", Generate(state), state, now)
        self._take_candidates(state, now, made)
        self.watch("generate", state)
        yield from self._evaluate(state, now)
        self.watch("evaluate", state)
        stopped = self.stop(state)
        if stopped is None and self.reflects and now.best is not None:
            said = yield from self._timed("reflect", Reflect(state, now.best), state, now)
            now.reflection = said if isinstance(said, Reflection) else Reflection(said)
            self.watch("reflect", state)
            stopped = self.stop(state)
        return stopped

    def rescore(self, state: State[Any, Any]) -> Generator[Ask[Any, Any], Any, list[Score]]:
        """Asks for independent scores of the valid attempts."""
        candidates = [attempt.candidate for attempt in state.attempts if attempt.score.valid]
        given = yield Rescore(state, candidates)
        self.watch("rescore", state)
        return _scores(given, len(candidates))

    def _timed(
        self, phase: str, ask: Ask[Any, Any], state: State[Any, Any], now: Round[Any, Any]
    ) -> Generator[Ask[Any, Any], Any, Any]:
        start = self.clock()
        now.seconds[phase] = 0.0
        try:
            answer = yield ask
        except self.failures as error:
            raise _PhaseFailed(phase, error) from error
        finally:
            now.seconds[phase] = self.clock() - start
        return answer

    def _take_candidates(self, state: State[Any, Any], now: Round[Any, Any], made: Sequence[Any]) -> None:
        first = len(state.attempts) + 1
        for number, one in enumerate(made, start=first):
            metered = one if isinstance(one, Metered) else Metered(one)
            now.attempts.append(Attempt(number, now.number, metered.value, usage=metered.usage))

    def _evaluate(self, state: State[Any, Any], now: Round[Any, Any]) -> Generator[Ask[Any, Any], Any, None]:
        scores = [Score(0.0)] * len(now.attempts)
        if self.evaluates and now.attempts:
            candidates = [attempt.candidate for attempt in now.attempts]
            given = yield from self._timed("evaluate", Evaluate(state, candidates), state, now)
            scores = _scores(given, len(candidates))
        now.attempts = [replace(attempt, score=score) for attempt, score in zip(now.attempts, scores, strict=True)]
        best = now.best
        if best is None:
            now.error = _all_masked(now)
            if state.best is None:
                raise AllInvalidError(now.error)
        elif state.best is None or best.score.value > state.best.score.value:
            state.best = best


def _scores(given: Sequence[float | Score], wanted: int) -> list[Score]:
    scores = [one if isinstance(one, Score) else Score(float(one)) for one in given]
    if len(scores) != wanted:
        raise ValueError(f"{wanted} candidates were to be scored, {len(scores)} scores came back")
    return scores


def _all_masked(now: Round[Any, Any]) -> str:
    if not now.attempts:
        return f"round {now.number}: the generator gave no candidate"
    reasons = "; ".join(sorted({str(attempt.score.reason) for attempt in now.attempts}))
    return f"round {now.number}: none of its {len(now.attempts)} candidates is valid ({reasons})"


def refine(
    generate: Callable[[State[C, F]], Sequence[C | Metered[C]]],
    evaluate: Callable[[State[C, F], list[C]], Sequence[float | Score]] | None = None,
    reflect: Callable[[State[C, F], Attempt[C]], F | Reflection[F]] | None = None,
    *,
    stop: StopCondition,
    select: Selector = keep_best,
    rescore: Callable[[State[C, F], list[C]], Sequence[float | Score]] | None = None,
    failures: tuple[type[Exception], ...] = (Exception,),
    clock: Clock = time.monotonic,
    watch: Watch | None = None,
) -> Result[C, F]:
    """Runs the loop with plain functions; see :func:`loop_steps` for its rules, arguments and errors.

    ``generate`` sees the state (with the last reflection) and gives the round's candidates; ``evaluate`` gives a
    score, with or without feedback, for each; ``reflect`` turns the round's best attempt into what the next round
    starts from. ``rescore`` is an independent scorer for the final choice.
    """
    answers = _Answers(generate, evaluate, reflect, rescore)
    steps = answers.steps(stop, select, failures, clock, watch)
    try:
        ask = next(steps)
        while True:
            try:
                answer = answers.call(ask)
            except Exception as error:  # the generator decides: it ends the loop, or passes through
                ask = steps.throw(error)
            else:
                ask = steps.send(answer)
    except StopIteration as end:
        result: Result[C, F] = end.value
        return result


async def arefine(
    generate: Callable[[State[C, F]], Awaitable[Sequence[C | Metered[C]]]],
    evaluate: Callable[[State[C, F], list[C]], Awaitable[Sequence[float | Score]]] | None = None,
    reflect: Callable[[State[C, F], Attempt[C]], Awaitable[F | Reflection[F]]] | None = None,
    *,
    stop: StopCondition,
    select: Selector = keep_best,
    rescore: Callable[[State[C, F], list[C]], Awaitable[Sequence[float | Score]]] | None = None,
    failures: tuple[type[Exception], ...] = (Exception,),
    clock: Clock = time.monotonic,
    watch: Watch | None = None,
) -> Result[C, F]:
    """As :func:`refine`, with coroutine functions (plain ones will do, too)."""
    answers = _Answers(generate, evaluate, reflect, rescore)
    steps = answers.steps(stop, select, failures, clock, watch)
    try:
        ask = next(steps)
        while True:
            try:
                answer = answers.call(ask)
                if inspect.isawaitable(answer):
                    answer = await answer
            except Exception as error:  # the generator decides: it ends the loop, or passes through
                ask = steps.throw(error)
            else:
                ask = steps.send(answer)
    except StopIteration as end:
        result: Result[C, F] = end.value
        return result


@dataclass(frozen=True, slots=True)
class _Answers:
    """Which function answers which ask."""

    generate: Callable[..., Any]
    evaluate: Callable[..., Any] | None
    reflect: Callable[..., Any] | None
    rescore: Callable[..., Any] | None

    def steps(
        self,
        stop: StopCondition,
        select: Selector,
        failures: tuple[type[Exception], ...],
        clock: Clock,
        watch: Watch | None,
    ) -> Generator[Ask[Any, Any], Any, Result[Any, Any]]:
        return loop_steps(
            stop=stop,
            evaluates=self.evaluate is not None,
            reflects=self.reflect is not None,
            rescores=self.rescore is not None,
            select=select,
            failures=failures,
            clock=clock,
            watch=watch,
        )

    def call(self, ask: Ask[Any, Any]) -> Any:
        match ask:
            case Generate():
                return self.generate(ask.state)
            case Evaluate():
                assert self.evaluate is not None
                return self.evaluate(ask.state, ask.candidates)
            case Reflect():
                assert self.reflect is not None
                return self.reflect(ask.state, ask.attempt)
            case Rescore():
                assert self.rescore is not None
                return self.rescore(ask.state, ask.candidates)
