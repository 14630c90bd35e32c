"""Which tasks a step trains on: a shuffled pass over the data, then another, as a pure function of the step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")


def batch_of_step(items: Sequence[T], step: int, size: int, seed: int) -> list[T]:
    """The ``size`` items of training step ``step`` (from 0).

    Every pass visits each item once, in an order that depends on ``seed`` and the pass alone; a batch
    may reach over the end of one pass into the next. No state: a resumed run asks again and gets the same.

    Raises:
        ValueError: there are no items.
    """
    if not items:
        raise ValueError("no items to draw batches from")
    first = step * size
    batch: list[T] = []
    for position in range(first, first + size):
        epoch, offset = divmod(position, len(items))
        batch.append(items[_order(len(items), epoch, seed)[offset]])
    return batch


@lru_cache(maxsize=2)
def _order(n: int, epoch: int, seed: int) -> tuple[int, ...]:
    """The permutation of one pass; the last two are remembered, since they are asked for item by item."""
    order = list(range(n))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return tuple(order)
