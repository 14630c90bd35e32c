"""What the refine stage samples: requests in, samples out, whoever samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from astune.refine.prompts import Message

#: The sub-agent that a request or a sample belongs to.
Role = Literal["answer", "critique", "refine"]


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One completion to sample. ``row`` is the batch row that it belongs to; rounds count from 1."""

    role: Role
    messages: list[Message]
    row: int
    round: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled completion.

    ``logprobs`` are those of ``completion_ids`` under the sampling distribution, None where the sampler
    cannot tell. ``detail`` is the sampler's own: an episode, or the fields of a trainer's row.
    """

    text: str
    prompt_ids: list[int]
    completion_ids: list[int]
    logprobs: list[float] | None = None
    truncated: bool = False
    detail: Any = None


class Sampler(Protocol):
    """Samples completions for the refine stage: an engine, a trainer, or an HTTP endpoint."""

    def sample(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """One sample for each request, in order. Without requests, an empty list.

        Raises:
            EngineError: the model could not be asked, retries included.
        """
        ...
