"""The vocabulary of the benchmark: problems, results of an evaluation, outcomes of a submission, verdicts on a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from astune.report.statistics import wilson_interval

#: ``train`` is the agent's, ``dev`` answers with a score, ``test`` is the grader's alone; ``twin`` is drawn like
#: ``test`` with another seed: a model that knows the test by heart scores less on it.
Split = Literal["train", "dev", "test", "twin"]
#: What ``baseline_score`` and ``score`` measure, both in percent. ``pass@1`` is the share of programs that pass.
Metric = Literal["accuracy", "pass@1"]
#: How a model is asked: one completion of the item's messages, or a whole workflow with tools.
EpisodeKind = Literal["direct", "workflow"]


@dataclass(frozen=True, slots=True)
class Item:
    """One problem of a split.

    ``messages`` is what the model is asked (system prompt included); ``target`` is what the checker compares with,
    and never reaches the model. ``metadata`` is the source's own, JSON values only.
    """

    id: str
    messages: list[dict[str, Any]]
    target: str
    metadata: dict[str, Any] = field(default_factory=dict)


class Checker(Protocol):
    """Grades one completion. Whatever of it is run or parsed by more than string operations is so in the sandbox."""

    async def grade(self, item: Item, completion: str) -> bool | None:
        """Whether ``completion`` solves ``item``; None where that cannot be told.

        Raises:
            SandboxError: the sandbox is not there: nobody's fault but ours, and no score.
        """
        ...


@dataclass(frozen=True, slots=True)
class ItemResult:
    """How one item went: ``correct`` is None for a completion that cannot be graded; ``tokens`` were sampled."""

    item_id: str
    correct: bool | None
    completion: str
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's results on one split, in the order of its items.

    What cannot be graded counts as not solved, so that nobody gains by being unreadable.
    """

    results: tuple[ItemResult, ...]
    log_path: Path | None = None

    def __post_init__(self) -> None:
        if not self.results:
            raise ValueError("an evaluation without results has no score")

    @property
    def n_correct(self) -> int:
        """Number of items solved."""
        return sum(result.correct is True for result in self.results)

    @property
    def accuracy(self) -> float:
        """Items solved, in percent of all (62.47 means 62.47 %); not rounded."""
        return 100 * self.n_correct / len(self.results)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy, in percent."""
        low, high = wilson_interval(self.n_correct, len(self.results))
        return 100 * low, 100 * high

    @property
    def n_ungradable(self) -> int:
        """Number of completions that could not be graded."""
        return sum(result.correct is None for result in self.results)

    @property
    def n_truncated(self) -> int:
        """Number of completions that were cut at the token limit."""
        return sum(result.truncated for result in self.results)


class Outcome(StrEnum):
    """What became of a submission: a score, a refusal for a fault of its own, or a failure of ours (never a score)."""

    SCORED = "scored"
    INVALID = "invalid"
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a submission has no score: a stable ``code`` to count by, and a sentence that says what to do."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SubmissionResult:
    """The outcome of a submission: an evaluation where it is scored, reasons where it is not.

    Raises:
        ValueError: a score without an evaluation, or a refusal with one or without a reason.
    """

    outcome: Outcome
    evaluation: Evaluation | None = None
    reasons: tuple[Reason, ...] = ()

    def __post_init__(self) -> None:
        scored = self.outcome == Outcome.SCORED
        if scored != (self.evaluation is not None) or scored == bool(self.reasons):
            raise ValueError(f"an outcome {self.outcome} goes with {'an evaluation' if scored else 'reasons'} alone")


@dataclass(frozen=True, slots=True)
class Flag:
    """One finding against a run: a stable ``code``, a sentence, and the numbers that it rests on."""

    code: str
    message: str
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the integrity checks found. It binds: a flagged run is ranked apart."""

    flags: tuple[Flag, ...] = ()

    @property
    def is_flagged(self) -> bool:
        """Whether any check found something."""
        return bool(self.flags)

    @classmethod
    def joined(cls, verdicts: Sequence[Verdict]) -> Verdict:
        """All findings of several checks as one verdict."""
        return cls(tuple(flag for verdict in verdicts for flag in verdict.flags))
