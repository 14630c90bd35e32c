"""Refinement of a whole batch in lockstep: all critiques are one sampling call, all refined answers another.

Each row is a refinement loop of its own (:mod:`astune.refine.loop`) whose first candidate is the answer that is there
already. What the rows ask for is gathered and asked at once. Free of input and output: :func:`refine_rounds` asks and
is answered. A trainer that samples collectively, an event loop and a test with scripted answers drive the same one.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from astune.errors import ConfigError
from astune.refine.loop import Ask, loop_steps
from astune.refine.loop_state import Metered, Reflection, Score, State, Usage
from astune.refine.stop import Rounds as RoundLimit
from astune.refine.stop import ScoreReached, StopCondition
from astune.refine.sub_agents import Excess, SubAgents
from astune.refine.types import (
    Attempt,
    Grade,
    GradeBatch,
    GradeRequest,
    History,
    Keep,
    Role,
    Round,
    Sample,
    SampleBatch,
    SampleRequest,
)

#: Which rows take a (further) round: all; those that the reward does not call correct; those that the critic does not
#: call correct; those whose reward is below a threshold.
Gate = Literal["always", "wrong", "verdict", "score"]

#: Whether anything is true on any process; every process calls it at the same points.
AnyProcess = Callable[[bool], bool]

Rounds = Generator[SampleBatch | GradeBatch, Any, list[History]]


@dataclass(frozen=True, slots=True)
class RefineOptions:
    """How a batch is refined.

    Attributes:
        use_critique: ask the critic first; without it, the refiner sees the question and the attempt alone.
        max_rounds: rounds a row may take at most.
        gate: which rows take a round, asked before each. ``wrong`` looks at the reward, so it is for training;
            at inference there is no such oracle. An attempt that could not be graded counts as not correct.
        score_threshold: for the gate ``score``: a row whose reward reaches it takes no further round.
        keep: which attempt stands for a row in the end. ``best`` includes the first answer.
        stop: ends a row, besides the gate and the rounds; of its loop the first answer is round 1.

    Raises:
        ConfigError: no rounds, an unknown word, or a gate that lacks what it looks at.
    """

    use_critique: bool = True
    max_rounds: int = 1
    gate: Gate = "wrong"
    score_threshold: float | None = None
    keep: Keep = "last"
    stop: StopCondition | None = None

    def __post_init__(self) -> None:
        if self.max_rounds < 1:
            raise ConfigError(f"max_refine_rounds is {self.max_rounds}: give at least 1, or turn refinement off")
        for name, value, known in (("gate", self.gate, get_args(Gate)), ("keep", self.keep, get_args(Keep))):
            if value not in known:
                raise ConfigError(f"refine {name} {value!r} is not known: use {', '.join(map(repr, known))}")
        if self.gate == "verdict" and not self.use_critique:
            raise ConfigError("the gate 'verdict' needs a critic: set use_critique, or take another gate")
        if (self.gate == "score") != (self.score_threshold is not None):
            raise ConfigError("score_threshold and the gate 'score' go together: give both or neither")

    def row_stop(self) -> StopCondition:
        """When a row takes no further round."""
        limit: StopCondition = _Named("rounds", RoundLimit(self.max_rounds + 1))
        gates: dict[Gate, StopCondition | None] = {"wrong": _Correct(), "verdict": _CriticSatisfied(), "always": None}
        gate = gates.get(self.gate)
        if self.score_threshold is not None:
            gate = _Named("score", ScoreReached(self.score_threshold))
        conditions = [one for one in (gate, self.stop) if one is not None]
        for condition in reversed(conditions):
            limit = condition | limit
        return limit


@dataclass(frozen=True, slots=True)
class _Named(StopCondition):
    name: str
    condition: StopCondition

    def _reason(self, state: State[Any, Any]) -> str | None:
        return self.name if self.condition(state) is not None else None


@dataclass(frozen=True, slots=True)
class _Correct(StopCondition):
    """The reward calls the last attempt correct."""

    def _reason(self, state: State[Any, Any]) -> str | None:
        return "correct" if state.attempts[-1].score.verdict else None


@dataclass(frozen=True, slots=True)
class _CriticSatisfied(StopCondition):
    """The critic calls the last attempt correct. Its word alone: at inference the reward has none."""

    def _reason(self, state: State[Any, Any]) -> str | None:
        said = state.rounds[-1].reflection
        return "verdict" if said is not None and said.verdict else None


def refine_rounds(
    prompts: Sequence[Sequence[Mapping[str, Any]]],
    first: Sequence[Attempt],
    mask: Sequence[bool] | None = None,
    options: RefineOptions = RefineOptions(),
    *,
    agents: SubAgents | None = None,
    batch: int = 0,
    excess: Excess | None = None,
    any_process: AnyProcess | None = None,
) -> Rounds:
    """Refines the rows of a batch, round by round; a generator that asks and is answered.

    Yields a :class:`SampleBatch`, to be sent one :class:`Sample` a request, and a :class:`GradeBatch`, to be sent one
    :class:`Grade` an attempt; returns one :class:`History` a row of ``mask``, in order of rows. A round is critiques,
    refined answers, grades. Nothing is asked where no row takes a round.

    Args:
        prompts: one conversation a row: system and user messages, images as content parts.
        first: the first answers and their grades, one a row.
        mask: rows that may be refined; None means all.
        options: see :class:`RefineOptions`.
        agents: the sub-agents; the bundled ones by default.
        batch: number of the batch, passed on in the requests.
        excess: how many tokens too long a prompt is. With it, a critique that would not fit is cut (and noted in
            the round); without it the sampler's ``error`` ends the row.
        any_process: where sampling or grading is collective. While any process has a row to refine, every process
            is asked for the same phases, with empty lists where it has none.

    Raises:
        ValueError: the lists differ in length, or an answer has another length than what was asked.
    """
    if not len(prompts) == len(first) == len(first if mask is None else mask):
        raise ValueError(f"{len(prompts)} prompts, {len(first)} first answers, {len(mask or first)} rows in the mask")
    rows = [
        _Row.begin(History(number, [dict(m) for m in prompts[number]], first[number], options.keep), options)
        for number in range(len(first))
        if mask is None or mask[number]
    ]
    yield from _Stage(options, agents or SubAgents.of(), batch, excess, any_process).run(rows)
    return [row.history for row in rows]


class _SampleFailed(Exception):
    """A refined answer could not be sampled: the row's loop ends, and what it has stands."""


@dataclass(slots=True)
class _Row:
    """One row's loop, standing at what it asks for; ``ask`` is None when it has ended."""

    history: History
    steps: Generator[Ask[Sample, str], Any, Any]
    ask: Ask[Sample, str] | None = None

    @classmethod
    def begin(cls, history: History, options: RefineOptions) -> _Row:
        """A row whose first answer has been generated and evaluated."""
        steps = loop_steps(stop=options.row_stop(), reflects=options.use_critique, failures=(_SampleFailed,))
        row = cls(history, steps, next(steps))
        row.send([_metered(history.first.sample)])
        row.send([_score(history.first.grade)])
        return row

    @property
    def last(self) -> Attempt:
        return self.history.attempts[-1]

    @property
    def now(self) -> Round:
        return self.history.rounds[-1]

    def send(self, answer: Any) -> None:
        self._advance(lambda: self.steps.send(answer))

    def fail(self, error: str) -> None:
        self.now.error = error
        self._advance(lambda: self.steps.throw(_SampleFailed(error)))

    def _advance(self, step: Callable[[], Ask[Sample, str]]) -> None:
        try:
            self.ask = step()
        except StopIteration as end:
            self.ask, self.history.stopped = None, end.value.stopped


def _going(rows: Sequence[_Row]) -> list[_Row]:
    return [row for row in rows if row.ask is not None]


def _metered(sample: Sample) -> Metered[Sample]:
    return Metered(sample, Usage(sample.tokens, len(sample.prompt_ids)))


def _score(grade: Grade) -> Score:
    """An attempt that could not be graded ranks below every graded one; masked it could not be refined."""
    return Score(-sys.float_info.max if grade.reward is None else grade.reward, verdict=grade.correct)


@dataclass(frozen=True, slots=True)
class _Stage:
    """One run over a batch: the phases of a round, each for the rows that still take part."""

    options: RefineOptions
    agents: SubAgents
    batch: int
    excess: Excess | None
    any_process: AnyProcess | None

    def run(self, rows: Sequence[_Row]) -> Generator[SampleBatch | GradeBatch, Any, None]:
        number = 0
        while self._any(going := _going(rows)):
            number += 1
            for row in going:
                row.history.rounds.append(Round(number))
            if self.options.use_critique:
                yield from self._critique(going)
                if not self._any(going := _going(going)):
                    break
            yield from self._refine(going)

    def _critique(self, going: Sequence[_Row]) -> Generator[SampleBatch, list[Sample], None]:
        critic = self.agents.critique
        asked = [critic.messages(row.history.prompt, row.last.sample.text) for row in going]
        samples = yield from self._sample("critique", going, asked)
        for row, sample in zip(going, samples, strict=True):
            row.now.critique, row.now.verdict = sample, critic.verdict(sample.text)
            said = _metered(sample)
            row.send(Reflection(sample.text, row.now.verdict, said.usage))

    def _refine(self, going: Sequence[_Row]) -> Generator[SampleBatch | GradeBatch, Any, None]:
        samples = yield from self._sample("refine", going, [self._refine_messages(row) for row in going])
        for row, sample in zip(going, samples, strict=True):
            if sample.error is None:
                row.send([_metered(sample)])
            else:
                row.fail(sample.error)
        made = [(row, sample) for row, sample in zip(going, samples, strict=True) if sample.error is None]
        if not made and self.any_process is None:
            return
        attempts = [GradeRequest(row.history.row, row.now.number, sample) for row, sample in made]
        grades = _matching((yield GradeBatch(attempts)), len(attempts), "grades")
        for (row, sample), grade in zip(made, grades, strict=True):
            row.now.refined = Attempt(sample, grade)
            row.send([_score(grade)])

    def _refine_messages(self, row: _Row) -> list[dict[str, Any]]:
        refiner, now, prompt, answer = self.agents.refine, row.now, row.history.prompt, row.last.sample.text
        said = None if now.critique is None else refiner.shown(now.critique.text)
        now.shown = refiner.fitted(prompt, answer, said, self.excess)
        now.shortened = now.shown != said
        return refiner.messages(prompt, answer, now.shown)

    def _sample(
        self, role: Role, going: Sequence[_Row], asked: Sequence[list[dict[str, Any]]]
    ) -> Generator[SampleBatch, list[Sample], list[Sample]]:
        requests = [
            SampleRequest(role, messages, row.history.row, row.now.number, self.batch)
            for row, messages in zip(going, asked, strict=True)
        ]
        return _matching((yield SampleBatch(role, requests)), len(requests), f"{role} samples")

    def _any(self, going: Sequence[_Row]) -> bool:
        return bool(going) if self.any_process is None else self.any_process(bool(going))


def _matching(answer: list[Any], wanted: int, what: str) -> list[Any]:
    if len(answer) != wanted:
        raise ValueError(f"asked for {wanted} {what}, was given {len(answer)}")
    return answer


def run_rounds(
    rounds: Rounds,
    sample: Callable[[SampleBatch], list[Sample]],
    grade: Callable[[GradeBatch], list[Grade]],
) -> list[History]:
    """Drives :func:`refine_rounds` with plain functions."""
    try:
        ask = next(rounds)
        while True:
            ask = rounds.send(sample(ask) if isinstance(ask, SampleBatch) else grade(ask))
    except StopIteration as end:
        histories: list[History] = end.value
        return histories


async def arun_rounds(
    rounds: Rounds,
    sample: Callable[[SampleBatch], Awaitable[list[Sample]]],
    grade: Callable[[GradeBatch], Awaitable[list[Grade]]],
) -> list[History]:
    """Drives :func:`refine_rounds` with coroutine functions."""
    try:
        ask = next(rounds)
        while True:
            ask = rounds.send(await (sample(ask) if isinstance(ask, SampleBatch) else grade(ask)))
    except StopIteration as end:
        histories: list[History] = end.value
        return histories
