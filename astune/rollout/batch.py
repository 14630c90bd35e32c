"""The running batch as arrays: what was sampled, and who is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astune.rollout.backend import refill
from astune.rollout.sampling import stream_key
from astune.rollout.scheduler import Request
from astune.trace import StopReason, Turn


class RunningBatch:
    """One entry a row in every array, so that a step needs no Python work a row.

    Attributes:
        requests: whose row it is.
        next_token: the token that the row feeds at the next step.
    """

    def __init__(self, capacity: int) -> None:
        self.requests: list[Request] = []
        self._cached: list[int] = []
        self.next_token = np.zeros(capacity, np.int64)
        self.stream = np.zeros(capacity, np.uint64)
        self.temperature = np.ones(capacity, np.float32)
        self.top_p = np.ones(capacity, np.float32)
        self.sampled = np.zeros(capacity, np.int64)  # tokens sampled so far
        self._limit = np.zeros(capacity, np.int64)
        self._stop = np.full((capacity, 1), -1, np.int64)
        self._tokens = np.zeros((capacity, 0), np.int64)
        self._logprobs = np.zeros((capacity, 0), np.float32)

    def __len__(self) -> int:
        return len(self.requests)

    def join(self, request: Request, max_tokens: int, cached_tokens: int) -> None:
        """Appends a row that samples at most ``max_tokens``."""
        row, sampling = len(self.requests), request.sampling
        self._widen(max_tokens, len(sampling.stop_token_ids))
        self.requests.append(request)
        self._cached.append(cached_tokens)
        self.next_token[row] = request.prompt_ids[-1]
        self.stream[row] = stream_key(sampling.seed)
        self.temperature[row], self.top_p[row] = sampling.temperature, sampling.top_p
        self.sampled[row], self._limit[row] = 0, max_tokens
        self._stop[row] = -1
        self._stop[row, : len(sampling.stop_token_ids)] = sampling.stop_token_ids

    def record(self, tokens_R: NDArray[np.int64], logprobs_R: NDArray[np.float32]) -> list[tuple[int, StopReason]]:
        """Adds one sampled token a row; returns the rows that are done, and why."""
        rows = np.arange(len(self))
        self._tokens[rows, self.sampled[rows]] = tokens_R
        self._logprobs[rows, self.sampled[rows]] = logprobs_R
        self.sampled[rows] += 1
        self.next_token[rows] = tokens_R
        stopped = (tokens_R[:, None] == self._stop[rows]).any(axis=1)
        done = np.flatnonzero(stopped | (self.sampled[rows] >= self._limit[rows]))
        return [(int(row), StopReason.EOS if stopped[row] else StopReason.LENGTH) for row in done]

    def turn(self, row: int, reason: StopReason) -> Turn:
        """The finished turn of a row."""
        count = int(self.sampled[row])
        return Turn(
            prompt_ids=self.requests[row].prompt_ids,
            completion_ids=self._tokens[row, :count].tolist(),
            logprobs=self._logprobs[row, :count].tolist(),
            stop_reason=reason,
            cached_tokens=self._cached[row],
        )

    def fed_ids(self, row: int) -> list[int]:
        """What the model has seen of a row: everything but its last sampled token."""
        ids: list[int] = self.requests[row].prompt_ids + self._tokens[row, : int(self.sampled[row])].tolist()
        return ids[:-1]

    def remove(self, leaving: Sequence[int]) -> None:
        """Removes rows and closes the holes as :func:`~astune.rollout.backend.refill` says."""
        for source, target in refill(len(self), leaving):
            self.requests[target], self._cached[target] = self.requests[source], self._cached[source]
            for array in self._arrays():
                array[target] = array[source]
        left = len(self) - len(leaving)
        del self.requests[left:], self._cached[left:]

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        scalars = (self.next_token, self.stream, self.temperature, self.top_p, self.sampled, self._limit)
        return (*scalars, self._stop, self._tokens, self._logprobs)

    def _widen(self, tokens: int, stops: int) -> None:
        """Makes room for longer completions and more stop tokens than any row had so far."""
        if (extra := stops - self._stop.shape[1]) > 0:
            self._stop = np.pad(self._stop, ((0, 0), (0, extra)), constant_values=-1)
        if (extra := tokens - self._tokens.shape[1]) > 0:
            self._tokens = np.pad(self._tokens, ((0, 0), (0, extra)))
            self._logprobs = np.pad(self._logprobs, ((0, 0), (0, extra)))
