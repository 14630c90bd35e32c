"""What the engine asks of a model: take rows in, give next-token logits, let rows go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Admission:
    """A prompt that joins the batch. ``session`` names the cache it may continue."""

    prompt_ids: list[int]
    session: str | None


@dataclass(frozen=True, slots=True)
class Departure:
    """A row that leaves: its index, the ids of its sequence that were fed to the model, and the session
    that may continue it (None: nobody will)."""

    row: int
    fed_ids: list[int]
    session: str | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """What one admission cost: prompt tokens reused, and prompt tokens computed before the first step."""

    cached_tokens: int
    computed_tokens: int


class Backend(Protocol):
    """A running batch. Rows are numbered 0 .. R-1; new rows are appended."""

    def admit(self, admissions: Sequence[Admission]) -> list[Admitted]:
        """Adds rows. All but the last token of each prompt is computed now; the last one by ``step``."""
        ...

    def step(self, tokens_R: NDArray[np.int64]) -> Tensor:
        """Feeds one token a row and returns the logits of the next, ``[R, V]``."""
        ...

    def remove(self, departures: Sequence[Departure]) -> None:
        """Removes rows; the last rows fill the holes, as :func:`refill` says."""
        ...

    def close_session(self, session: str) -> None:
        """Frees what was kept for a session."""
        ...

    def clear(self) -> None:
        """Forgets everything computed with the old weights. The batch must be empty."""
        ...


def refill(rows: int, leaving: Sequence[int]) -> list[tuple[int, int]]:
    """Moves ``(source, target)`` that close the holes of ``leaving`` rows with rows from the end.

    >>> refill(5, [1, 4])
    [(3, 1)]
    """
    gone = set(leaving)
    left = rows - len(gone)
    holes = sorted(row for row in gone if row < left)
    tail = [row for row in range(left, rows) if row not in gone]
    return list(zip(tail, holes, strict=True))
