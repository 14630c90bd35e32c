"""Packing: nothing computed twice, nothing lost, the same plan every time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from astune.trace import StopReason, Trajectory, Turn
from astune.trainer.packing import MIN_SHARED, PackedBatch, TrainRow, pack, plan, select

ROOT = list(range(100, 140))


def row(
    prompt: list[int], rest: list[int], mask: list[int] | None = None, advantage: float = 1.0, group: int = 0
) -> TrainRow:
    """A trajectory whose tokens after the prompt are trained (or as ``mask`` says)."""
    loss_mask = [0] * len(prompt) + (mask or [1] * len(rest))
    logprobs = [-0.1 * index * bit for index, bit in enumerate(loss_mask)]
    turn = Turn(prompt, rest, logprobs[len(prompt) :], StopReason.EOS)
    return TrainRow(Trajectory(prompt + rest, loss_mask, logprobs, [turn]), advantage, group)


def two_tasks() -> list[TrainRow]:
    """Two groups of two rows under one preamble of 40 tokens; their prompts differ in 20 more."""
    prompts = [ROOT + [first] * 20 for first in (1, 2)]
    return [row(prompt, [7 + sample, 8, 9], group=group) for group, prompt in enumerate(prompts) for sample in (0, 1)]


def row_ids(batch: PackedBatch, number: int) -> list[int]:
    ids: list[int] = batch.input_ids_N[batch.row_stream(number)].tolist()
    return ids


def test_preamble_and_prompts_are_in_the_stream_once() -> None:
    batch = pack(two_tasks())
    assert len(batch.input_ids_N) == 40 + 2 * 20 + 4 * 2


def test_the_tree_has_the_levels_root_group_row() -> None:
    segments = pack(two_tasks()).segments
    assert [segment.parent for segment in segments] == [None, 0, 1, 1, 0, 4, 4]


def test_a_rows_path_spells_its_ids_up_to_the_last_target() -> None:
    rows = two_tasks()
    batch = pack(rows)
    assert [row_ids(batch, number) for number in range(4)] == [r.trajectory.ids[:-1] for r in rows]


def test_positions_count_from_each_rows_own_beginning() -> None:
    batch = pack(two_tasks())
    assert batch.position_ids_N[batch.row_stream(3)].tolist() == list(range(62))


def test_only_masked_in_tokens_are_targets() -> None:
    batch = pack([row(ROOT, [1, 2, 3, 4, 5, 6], mask=[1, 1, 0, 0, 1, 0])])
    assert batch.target_L.tolist() == [1, 2, 5]


def test_tokens_after_the_last_target_are_not_forwarded() -> None:
    assert row_ids(pack([row(ROOT, [1, 2, 3, 4], mask=[1, 1, 0, 0])]), 0) == [*ROOT, 1]


def test_each_target_is_predicted_by_the_token_before_it() -> None:
    rows = two_tasks()
    batch = pack(rows)
    expected = [r.trajectory.ids[59 + offset] for r in rows for offset in range(3)]
    assert batch.input_ids_N[batch.hidden_L].tolist() == expected


def test_log_probs_and_advantages_follow_their_tokens() -> None:
    rows = [row(ROOT, [1, 2], mask=[0, 1], advantage=0.5), row(ROOT, [1, 2, 3], advantage=-2.0)]
    batch = pack(rows)
    assert batch.advantage_L.tolist() == [0.5, -2.0, -2.0, -2.0]
    assert batch.old_logps_L.tolist() == pytest.approx([-4.1, -4.0, -4.1, -4.2])


def test_short_coincidences_are_not_shared() -> None:
    short, long = [3] * (MIN_SHARED - 1), [3] * MIN_SHARED
    assert len(pack([row(short, [1, 1]), row(short, [2, 2])]).segments) == 2
    assert len(pack([row(long, [1, 1]), row(long, [2, 2])]).segments) == 3


def test_identical_rows_and_rows_that_are_prefixes_of_others() -> None:
    rows = [row(ROOT, [1, 2, 3]), row(ROOT, [1, 2, 3]), row(ROOT, [1, 2, 3, 4, 5])]
    batch = pack(rows)
    assert [row_ids(batch, number) for number in range(3)] == [r.trajectory.ids[:-1] for r in rows]


def test_a_row_without_trained_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="trained token"):
        pack([row(ROOT, [1, 2], mask=[0, 0])])


def test_a_trained_first_token_is_refused() -> None:
    with pytest.raises(ValueError, match="begin"):
        pack([row([], [1, 2])])


def test_select_keeps_rows_that_move_the_policy() -> None:
    rows = [row(ROOT, [1]), row(ROOT, [2], advantage=0.0), row(ROOT, [3], mask=[0]), row(ROOT, [4], group=1)]
    assert select(rows, torch.tensor([True, False])) == [0]
    assert select(rows, torch.tensor([True, True])) == [0, 3]
    assert select(rows, torch.tensor([True, False]), with_kl=True) == [0, 1]


@pytest.mark.parametrize("budget", [1, 50, 64, 90, 10_000])
def test_the_plan_deals_out_every_row_once_within_the_budget(budget: int) -> None:
    rows = two_tasks()
    batches = plan(rows, budget)
    assert sorted(index for batch in batches for index in batch) == [0, 1, 2, 3]
    assert all(len(pack(rows, batch).input_ids_N) <= budget or len(batch) == 1 for batch in batches)


def test_groups_stay_whole_where_they_fit() -> None:
    assert plan(two_tasks(), 64) == [[0, 1], [2, 3]]


def test_a_packed_part_remembers_which_rows_it_holds() -> None:
    assert pack(two_tasks(), [2, 1]).indices == (2, 1)


ragged = st.lists(st.lists(st.integers(0, 1), min_size=2, max_size=60), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(ragged)
def test_any_rows_survive_packing(bodies: list[list[int]]) -> None:
    rows = [row(body[:1], body[1:]) for body in bodies]
    batch = pack(rows)
    assert [row_ids(batch, number) for number in range(len(rows))] == [body[:-1] for body in bodies]
    assert batch.target_L.tolist() == [token for body in bodies for token in body[1:]]
    assert sum(segment.length for segment in batch.segments) == len(batch.input_ids_N)
