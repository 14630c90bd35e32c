"""What the page of one run shows, read from the store in one moment: its scores, its notebook, its submissions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autorl_bench.leaderboard import Estimate, Evaluated, improvement
from autorl_bench.store import QueryState, Role, RunState, Transaction
from autorl_bench.store.records import (
    DevQuery,
    EvaluationRecord,
    Event,
    Experiment,
    Hypothesis,
    MeterSample,
    Submission,
    Usage,
)
from autorl_bench.types import Evaluation, Reason
from autorl_bench.web.results import Entry, Results, RunClock

#: An agent can write as much as it likes; a page shows this many experiments, the newest.
MAX_EXPERIMENTS = 200


@dataclass(frozen=True, slots=True)
class Score:
    """A share of items solved in percent, its Wilson interval, and how many items there were."""

    percent: float
    low: float
    high: float
    items: int

    @classmethod
    def of(cls, evaluation: Evaluation) -> Score:
        """The numbers of an evaluation; nothing of its items."""
        low, high = evaluation.interval
        return cls(evaluation.accuracy, low, high, len(evaluation.results))


@dataclass(frozen=True, slots=True)
class Answer:
    """A dev query and what was answered after ``seconds`` of the run's wall time; ``experiment`` is its number."""

    number: int
    state: QueryState
    seconds: float
    score: Score | None
    experiment: int | None
    reasons: tuple[Reason, ...]
    model_digest: str


@dataclass(frozen=True, slots=True)
class SplitScore:
    """What was measured on one split: the base model, the run's model, and the gain on the same items."""

    name: str
    baseline: Score | None
    score: Score | None
    gain: Estimate | None


@dataclass(frozen=True, slots=True)
class Gap:
    """By how much a model does better on dev, which it was chosen by, than on test; percentage points.

    ``same_model``: dev was asked for the very model that was tested; else the best answer stands for it.
    """

    points: float
    low: float
    high: float
    same_model: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """An experiment with what was measured for it; ``claimed_score`` inside it is the agent's word alone."""

    experiment: Experiment
    answers: tuple[Answer, ...]
    started: float
    seconds: float | None

    @property
    def measured(self) -> Score | None:
        """The last answered dev score."""
        scores = [answer.score for answer in self.answers if answer.score is not None]
        return scores[-1] if scores else None


@dataclass(frozen=True, slots=True)
class Idea:
    """A hypothesis and its experiments."""

    hypothesis: Hypothesis
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True)
class RunView:
    """One run as its page shows it. What could help an agent that still runs comes when the run has ended."""

    entry: Entry
    gain: Estimate | None
    splits: tuple[SplitScore, ...]
    gap: Gap | None
    answers: tuple[Answer, ...]
    ideas: tuple[Idea, ...]
    left_out: int
    submissions: tuple[Submission, ...]
    history: tuple[Event, ...]
    samples: tuple[MeterSample, ...]
    used: tuple[tuple[str, float, float | None], ...]

    @property
    def trials(self) -> list[Trial]:
        """All experiments shown, in the order in which they began."""
        return sorted((trial for idea in self.ideas for trial in idea.trials), key=lambda one: one.experiment.number)

    @property
    def best_dev(self) -> Score | None:
        """The best dev score that the run was told."""
        scores = [answer.score for answer in self.answers if answer.score is not None]
        return max(scores, key=lambda score: score.percent, default=None)


def read_run(results: Results, run_id: str) -> RunView:
    """Reads one run.

    Raises:
        UnknownRecord: no such run.
    """
    with results.store.read() as tx:
        run = tx.runs.get(run_id)
        entry = results.entry(tx, run)
        clock = RunClock.of(tx, run)
        experiments = tx.notebook.experiments(run_id)
        answers = _answers(tx, run_id, clock, {one.id: one.number for one in experiments})
        splits = _splits(tx, run_id, answers)
        ideas, left_out = _ideas(tx.notebook.hypotheses(run_id), experiments, answers, clock)
        submissions = tx.submissions.of_run(run_id)
        final = tx.results.score(run_id)
        samples = tx.ledger.samples(run_id)
        dev_asked = tx.submissions.dev_queries_spent(run_id)
        history = tuple(tx.ledger.events(run_id, "run.state"))
    if not run.state.is_end:
        entry = replace(entry, flags=(), notices=())
        submissions = [replace(one, report={}) for one in submissions]
    test = splits[0]
    return RunView(
        entry=entry,
        gain=test.gain,
        splits=tuple(split for split in splits if split.score or split.baseline),
        gap=None if final is None else _gap(answers, final),
        answers=tuple(answers),
        ideas=ideas,
        left_out=left_out,
        submissions=tuple(submissions),
        history=history,
        samples=tuple(samples),
        used=_used(samples[-1].usage if samples else None, run.budget, len(submissions), dev_asked),
    )


def _answers(tx: Transaction, run_id: str, clock: RunClock, experiments: Mapping[int, int]) -> list[Answer]:
    return [
        _answer(tx, query, number, clock, experiments)
        for number, query in enumerate(tx.submissions.dev_queries(run_id), start=1)
    ]


def _answer(tx: Transaction, query: DevQuery, number: int, clock: RunClock, experiments: Mapping[int, int]) -> Answer:
    record = None if query.evaluation_id is None else tx.results.get(query.evaluation_id)
    when = query.created if record is None else record.created
    score = None if record is None else Score.of(record.evaluation)
    experiment = None if query.experiment_id is None else experiments.get(query.experiment_id)
    return Answer(number, query.state, clock.spent(when), score, experiment, query.reasons, query.model_digest)


def _splits(tx: Transaction, run_id: str, answers: Sequence[Answer]) -> list[SplitScore]:
    """Test first; of a run that goes on, only what its agent is told."""
    found = {record.role: record for record in tx.results.of_run(run_id) if record.role != Role.DEV}
    ended = tx.runs.get(run_id).state.is_end
    base, final = found.get(Role.BASELINE), found.get(Role.FINAL)
    test = _split("test", base, final) if ended else SplitScore("test", None, None, None)
    dev_base = found.get(Role.DEV_BASELINE)
    best = max((one.score for one in answers if one.score), key=lambda score: score.percent, default=None)
    dev = SplitScore("dev, best answer", Score.of(dev_base.evaluation) if dev_base else None, best, None)
    if not ended:
        return [test, dev]
    twin, claimed = found.get(Role.TWIN), found.get(Role.CLAIMED)
    return [test, dev, _split("twin of the test", None, twin), _split("test, weights as handed in", base, claimed)]


def _split(name: str, baseline: EvaluationRecord | None, final: EvaluationRecord | None) -> SplitScore:
    base = None if baseline is None else Score.of(baseline.evaluation)
    if final is None:
        return SplitScore(name, base if name == "test" else None, None, None)
    return SplitScore(name, base, Score.of(final.evaluation), _gain(baseline, final))


def _gain(baseline: EvaluationRecord | None, final: EvaluationRecord) -> Estimate | None:
    """The paired gain; None where the two were measured on different items."""
    if baseline is None:
        return None
    if {one.item_id for one in baseline.evaluation.results} != {one.item_id for one in final.evaluation.results}:
        return None
    return improvement({0: Evaluated.of(final.evaluation, baseline.evaluation)})


def _gap(answers: Sequence[Answer], final: EvaluationRecord) -> Gap | None:
    """Dev minus test with the hybrid score interval for two independent proportions (Newcombe, 1998, method 10)."""
    scores = [answer.score for answer in answers if answer.score]
    own = [answer.score for answer in answers if answer.score and answer.model_digest == final.model_digest]
    if not scores:
        return None
    dev, test = own[-1] if own else max(scores, key=lambda score: score.percent), Score.of(final.evaluation)
    points = dev.percent - test.percent
    below = math.hypot(dev.percent - dev.low, test.high - test.percent)
    above = math.hypot(dev.high - dev.percent, test.percent - test.low)
    return Gap(points, points - below, points + above, bool(own))


def _ideas(
    hypotheses: Sequence[Hypothesis], experiments: Sequence[Experiment], answers: Sequence[Answer], clock: RunClock
) -> tuple[tuple[Idea, ...], int]:
    """The newest experiments under their hypotheses, and how many of both are left out."""
    shown = experiments[-MAX_EXPERIMENTS:]
    tried = {one.hypothesis_id for one in shown}
    kept = [one for one in hypotheses if one.id in tried] + [one for one in hypotheses if one.id not in tried]
    kept = sorted(kept[:MAX_EXPERIMENTS], key=lambda one: one.number)
    ideas = tuple(
        Idea(one, tuple(_trial(each, answers, clock) for each in shown if each.hypothesis_id == one.id)) for one in kept
    )
    return ideas, len(experiments) - len(shown) + len(hypotheses) - len(kept)


def _trial(experiment: Experiment, answers: Sequence[Answer], clock: RunClock) -> Trial:
    own = tuple(answer for answer in answers if answer.experiment == experiment.number)
    seconds = None if experiment.ended is None else experiment.ended - experiment.created
    return Trial(experiment, own, clock.spent(experiment.created), seconds)


def _used(
    usage: Usage | None, budget: Mapping[str, Any], submissions: int, dev_queries: int
) -> tuple[tuple[str, float, float | None], ...]:
    """What was used of what: name, used, allowed (None where nothing bounds it)."""

    def allowed(key: str, unit: float = 1.0) -> float | None:
        value = budget.get(key)
        return value * unit if isinstance(value, int | float) else None

    counts = [
        ("submissions", float(submissions), allowed("submissions")),
        ("dev queries", float(dev_queries), allowed("dev_queries")),
    ]
    if usage is None:
        return tuple(counts)
    gib = 2.0**30
    measured: list[tuple[str, float, float | None]] = [
        ("wall time", usage.wall_seconds, allowed("wall_seconds")),
        ("processor time", usage.cpu_seconds, allowed("cpu_seconds")),
        ("GPU time", usage.gpu_seconds, allowed("gpu_seconds")),
        ("peak memory", float(usage.peak_memory), allowed("memory_gib", gib)),
        ("disk", float(usage.disk), allowed("disk_gib", gib)),
        ("tokens of its own LLM", float(usage.agent_tokens), None),
    ]
    return tuple(one for one in measured if one[1] or one[2]) + tuple(counts)


def state_word(state: RunState) -> str:
    """A run's state for people."""
    return {RunState.INFRASTRUCTURE: "failed for us", RunState.EVALUATING: "being evaluated"}.get(state, state.value)
