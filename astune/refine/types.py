"""The data of the refine stage: requests in, samples and grades out, and the history of each row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from astune.refine.prompts import Message

#: The sub-agent that a request or a sample belongs to.
Role = Literal["answer", "critique", "refine"]
#: Which attempt of a history stands for its row: the last one made, or the one with the highest reward.
Keep = Literal["last", "best"]


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One completion to sample. ``row`` is the batch row that it belongs to; rounds count from 1.

    Batch, row, round and role together name a request, and its random stream.
    """

    role: Role
    messages: list[Message]
    row: int
    round: int
    batch: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled completion.

    ``logprobs`` are those of ``completion_ids`` under the sampling distribution, None where the sampler
    cannot tell; ids are empty where it knows none, and ``token_count`` then says how many were sampled, where
    that is known. ``error`` says why there is no completion (a prompt that
    does not fit the context); the row then keeps what it has. ``detail`` is the sampler's own: an episode,
    or the fields of a trainer's row.
    """

    text: str
    prompt_ids: list[int]
    completion_ids: list[int]
    logprobs: list[float] | None = None
    truncated: bool = False
    error: str | None = None
    detail: Any = None
    token_count: int | None = None

    @property
    def tokens(self) -> int:
        """Sampled tokens, as far as they are known."""
        return len(self.completion_ids) if self.token_count is None else self.token_count


class Sampler(Protocol):
    """Samples completions for the refine stage: an engine, a trainer, or an HTTP endpoint."""

    def sample(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """One sample for each request, in order. Without requests, an empty list.

        A request that cannot be met on its own account (its prompt is too long) gives a sample with ``error``.

        Raises:
            EngineError: the model could not be asked, retries included.
        """
        ...


@dataclass(frozen=True, slots=True)
class Grade:
    """What the run's own reward says of one attempt. A reward of None, or NaN, means: could not be graded."""

    reward: float | None
    correct: bool | None

    def __post_init__(self) -> None:
        if self.reward is not None and math.isnan(self.reward):
            object.__setattr__(self, "reward", None)
        if self.reward is None:
            object.__setattr__(self, "correct", None)


@dataclass(frozen=True, slots=True)
class GradeRequest:
    """One attempt to grade. ``round`` 0 is the first answer."""

    row: int
    round: int
    sample: Sample


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Asks for one :class:`Sample` a request. Every request of a batch has the same role."""

    role: Role
    requests: list[SampleRequest]


@dataclass(frozen=True, slots=True)
class GradeBatch:
    """Asks for one :class:`Grade` an attempt."""

    attempts: list[GradeRequest]


@dataclass(frozen=True, slots=True)
class Attempt:
    """An answer and its grade."""

    sample: Sample
    grade: Grade


@dataclass(slots=True)
class Round:
    """One round of one row: the critique of the attempt before, and the refined attempt.

    Attributes:
        number: from 1.
        critique: as sampled; None without a critique.
        shown: what the refiner was shown of it; None where it was asked without one.
        verdict: whether the critic calls the attempt correct; None where it does not say.
        shortened: whether ``shown`` had to be cut to fit the context.
        refined: the new attempt; None where the verdict ended the row, or sampling it failed.
        error: why sampling the new attempt failed.
    """

    number: int
    critique: Sample | None = None
    shown: str | None = None
    verdict: bool | None = None
    shortened: bool = False
    refined: Attempt | None = None
    error: str | None = None

    @property
    def critique_is_empty(self) -> bool:
        """Whether a critique was asked for and nothing came."""
        return self.critique is not None and not self.critique.text.strip()


@dataclass(slots=True)
class History:
    """All that happened to one refined row.

    ``stopped`` says why it took no further round: ``correct``, ``rounds``, ``verdict``, ``score``, or ``failed``
    (the sampler gave an error). ``keep`` says which attempt stands for the row.
    """

    row: int
    prompt: list[Message]
    first: Attempt
    keep: Keep = "last"
    rounds: list[Round] = field(default_factory=list)
    stopped: str = ""

    @property
    def attempts(self) -> list[Attempt]:
        """The first answer and every refined one, in order."""
        return [self.first, *(done.refined for done in self.rounds if done.refined is not None)]

    @property
    def kept(self) -> int:
        """Index in ``attempts`` of the one that stands for the row; 0 is the first answer. Ties keep the earlier."""
        attempts = self.attempts
        if self.keep == "last":
            return len(attempts) - 1
        rewards = [-math.inf if attempt.grade.reward is None else attempt.grade.reward for attempt in attempts]
        return rewards.index(max(rewards))

    @property
    def final(self) -> Attempt:
        """The attempt that stands for the row."""
        return self.attempts[self.kept]

    @property
    def completion_tokens(self) -> dict[str, int]:
        """Sampled tokens by role, as far as they are known."""
        critiques = [done.critique for done in self.rounds if done.critique is not None]
        refined = [done.refined.sample for done in self.rounds if done.refined is not None]
        return {
            "answer": self.first.sample.tokens,
            "critique": sum(sample.tokens for sample in critiques),
            "refine": sum(sample.tokens for sample in refined),
        }
