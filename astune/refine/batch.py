"""Refinement of a whole batch in lockstep: all critiques are one sampling call, all refined answers another.

Free of input and output: :func:`refine_rounds` asks and is answered. A trainer that samples collectively, an event
loop and a test with scripted answers all drive the same generator.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from astune.errors import ConfigError
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

    Raises:
        ConfigError: no rounds, an unknown word, or a gate that lacks what it looks at.
    """

    use_critique: bool = True
    max_rounds: int = 1
    gate: Gate = "wrong"
    score_threshold: float | None = None
    keep: Keep = "last"

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
    histories = [
        History(row, [dict(message) for message in prompts[row]], first[row], options.keep)
        for row in range(len(first))
        if mask is None or mask[row]
    ]
    stage = _Stage(options, agents or SubAgents.of(), batch, excess, any_process)
    yield from stage.run(histories)
    return histories


@dataclass(slots=True)
class _Stage:
    """One run over a batch: the phases of a round, each for the rows that still take part."""

    options: RefineOptions
    agents: SubAgents
    batch: int
    excess: Excess | None
    any_process: AnyProcess | None

    def run(self, histories: Sequence[History]) -> Generator[SampleBatch | GradeBatch, Any, None]:
        going = [history for history in histories if not self._ends(history)]
        for number in range(1, self.options.max_rounds + 1):
            if not self._any(going):
                break
            for history in going:
                history.rounds.append(Round(number))
            if self.options.use_critique:
                yield from self._critique(going)
                going = [history for history in going if not self._critic_ends(history)]
                if not self._any(going):
                    break
            refined = yield from self._refine(going)
            yield from self._grade(refined)
            going = [history for history, _ in refined if not self._ends(history)]
        for history in going:
            history.stopped = "rounds"

    def _critique(self, going: Sequence[History]) -> Generator[SampleBatch, list[Sample], None]:
        critic = self.agents.critique
        asked = [critic.messages(history.prompt, history.attempts[-1].sample.text) for history in going]
        samples = yield from self._sample("critique", going, asked)
        for history, sample in zip(going, samples, strict=True):
            now = history.rounds[-1]
            now.critique, now.verdict = sample, critic.verdict(sample.text)

    def _refine(self, going: Sequence[History]) -> Generator[SampleBatch, list[Sample], list[tuple[History, Sample]]]:
        asked = [self._refine_messages(history) for history in going]
        samples = yield from self._sample("refine", going, asked)
        refined = []
        for history, sample in zip(going, samples, strict=True):
            if sample.error is None:
                refined.append((history, sample))
            else:
                history.stopped = "failed"
                history.rounds[-1].error = sample.error
        return refined

    def _refine_messages(self, history: History) -> list[dict[str, Any]]:
        refiner, now, answer = self.agents.refine, history.rounds[-1], history.attempts[-1].sample.text
        said = None if now.critique is None else refiner.shown(now.critique.text)
        now.shown = refiner.fitted(history.prompt, answer, said, self.excess)
        now.shortened = now.shown != said
        return refiner.messages(history.prompt, answer, now.shown)

    def _grade(self, refined: Sequence[tuple[History, Sample]]) -> Generator[GradeBatch, list[Grade], None]:
        if not refined and self.any_process is None:
            return
        attempts = [GradeRequest(history.row, history.rounds[-1].number, sample) for history, sample in refined]
        grades = _matching((yield GradeBatch(attempts)), len(attempts), "grades")
        for (history, sample), grade in zip(refined, grades, strict=True):
            history.rounds[-1].refined = Attempt(sample, grade)

    def _sample(
        self, role: Role, going: Sequence[History], asked: Sequence[list[dict[str, Any]]]
    ) -> Generator[SampleBatch, list[Sample], list[Sample]]:
        requests = [
            SampleRequest(role, messages, history.row, history.rounds[-1].number, self.batch)
            for history, messages in zip(going, asked, strict=True)
        ]
        return _matching((yield SampleBatch(role, requests)), len(requests), f"{role} samples")

    def _any(self, going: Sequence[History]) -> bool:
        return bool(going) if self.any_process is None else self.any_process(bool(going))

    def _ends(self, history: History) -> bool:
        """Whether the gate lets the row take no further round, as far as its last grade says."""
        grade, threshold = history.attempts[-1].grade, self.options.score_threshold
        if self.options.gate == "wrong" and grade.correct:
            history.stopped = "correct"
        if threshold is not None and grade.reward is not None and grade.reward >= threshold:
            history.stopped = "score"
        return bool(history.stopped)

    def _critic_ends(self, history: History) -> bool:
        if self.options.gate == "verdict" and history.rounds[-1].verdict:
            history.stopped = "verdict"
        return bool(history.stopped)


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
