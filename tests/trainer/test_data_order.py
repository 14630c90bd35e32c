"""Which tasks a step trains on."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astune.trainer.data_order import batch_of_step


@given(n=st.integers(1, 40), size=st.integers(1, 12), seed=st.integers(0, 5), passes=st.integers(1, 3))
def test_every_pass_visits_every_item_once(n: int, size: int, seed: int, passes: int) -> None:
    steps = -(-n * passes // size)
    drawn = [item for step in range(steps) for item in batch_of_step(range(n), step, size, seed)]
    assert set(Counter(drawn[: n * passes]).values()) == {passes}


def test_a_step_is_the_same_whoever_asks_and_when() -> None:
    batches = [batch_of_step(range(50), step, 8, 3) for step in range(12)]
    assert [batch_of_step(range(50), step, 8, 3) for step in reversed(range(12))] == batches[::-1]


def test_seeds_and_passes_order_differently() -> None:
    assert batch_of_step(range(100), 0, 100, 0) != batch_of_step(range(100), 0, 100, 1)
    assert batch_of_step(range(100), 0, 100, 0) != batch_of_step(range(100), 1, 100, 0)


def test_no_items_is_an_error() -> None:
    with pytest.raises(ValueError, match="no items"):
        batch_of_step([], 0, 8, 0)
