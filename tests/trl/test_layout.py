"""Rows of TRL's batch are moved by mask, on the right side, and stay aligned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.trainer.utils import pad

from astune.trl.layout import NewRow, completion_tokens, prompt_tokens, replace_rows, take_rows

PAD = 0
ids = st.lists(st.integers(0, 9), min_size=1, max_size=6)  # the pad id is a token like any other
rows = st.lists(st.tuples(ids, ids), min_size=1, max_size=5)


def batch_of(sequences: list[tuple[list[int], list[int]]], multiple_of: int | None = None) -> dict[str, Any]:
    """A batch padded as TRL pads it, with every field that has a value a token."""
    prompts = [torch.tensor(prompt) for prompt, _ in sequences]
    completions = [torch.tensor(completion) for _, completion in sequences]
    sides: dict[str, Any] = {"padding_side": "left", "pad_to_multiple_of": multiple_of}
    prompt_ids = pad(prompts, PAD, **sides)
    prompt_mask = pad([torch.ones_like(one) for one in prompts], 0, **sides)
    sides["padding_side"] = "right"
    completion_ids = pad(completions, PAD, **sides)
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": pad([torch.ones_like(one) for one in completions], 0, **sides),
        "advantages": torch.arange(len(sequences), dtype=torch.float32),
        "num_items_in_batch": torch.tensor(7),
        "old_per_token_logps": pad([-one.float() for one in completions], 0, **sides),
        "tool_mask": pad([(one % 2) for one in completions], 1, **sides),
        "mm_token_type_ids": torch.cat(
            [pad([one % 3 for one in prompts], 0, padding_side="left", pad_to_multiple_of=multiple_of),
             torch.zeros_like(completion_ids)], dim=1),
    }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(old=rows, new=rows, chosen=st.sets(st.integers(0, 4)), multiple_of=st.sampled_from([None, 4]))
def test_replaced_batch_is_the_batch_that_trl_would_have_padded(
    old: Any, new: Any, chosen: set[int], multiple_of: int | None
) -> None:
    replaced = {row: new[row % len(new)] for row in chosen if row < len(old)}
    changed = replace_rows(
        batch_of(old, multiple_of),
        {row: NewRow(p, c, {"mm_token_type_ids": [i % 3 for i in p]}) for row, (p, c) in replaced.items()},
        pad_id=PAD,
        multiple_of=multiple_of,
    )

    expected = batch_of([replaced.get(row, sequence) for row, sequence in enumerate(old)], multiple_of)
    for row in replaced:  # sampled by the model, and not scored yet
        expected["tool_mask"][row] = 1
        expected["old_per_token_logps"][row] = 0
    assert changed.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(changed[key], value), key


@given(old=rows)
@settings(max_examples=20, deadline=None)
def test_tokens_of_a_row_are_read_by_mask(old: Any) -> None:
    batch = batch_of(old)
    assert [(prompt_tokens(batch, row), completion_tokens(batch, row)) for row in range(len(old))] == old


def test_the_batch_given_is_left_as_it_is() -> None:
    batch = batch_of([([1, 2], [3]), ([4], [5, 6])])
    before = {key: value.clone() for key, value in batch.items()}
    replace_rows(batch, {0: NewRow([9, 9, 9], [9])}, pad_id=PAD)
    assert all(torch.equal(batch[key], before[key]) for key in before)


def test_a_masked_new_row_is_left_out_of_the_loss() -> None:
    changed = replace_rows(batch_of([([1], [2, 3])]), {0: NewRow([1], [4, 5], masked=True)}, pad_id=PAD)
    assert changed["completion_mask"].sum() == 0
    assert changed["completion_ids"].tolist() == [[4, 5]]


def test_a_batch_without_a_token_in_the_loss_keeps_a_width() -> None:
    # mask_truncated_completions can mask every row.
    batch = batch_of([([1], [2, 3]), ([1], [2])])
    batch["completion_mask"].zero_()
    changed = replace_rows(batch, {0: NewRow([1], [4], masked=True)}, pad_id=PAD)
    assert changed["completion_ids"].size(1) == 1


@pytest.mark.parametrize("chosen", [[1], [2, 0], [1, 1]])
def test_images_follow_their_rows(chosen: list[int]) -> None:
    per_row = [(2, 1), (0, 0), (1, 1)]  # (images, patches an image)
    counts = [images for images, _ in per_row]
    patches = [torch.full((images * size, 3), float(row)) for row, (images, size) in enumerate(per_row)]
    grid = torch.cat([torch.tensor([[1, 1, size]] * images).reshape(-1, 3) for images, size in per_row]).long()
    batch = batch_of([([1], [2])] * 3) | {
        "pixel_values": torch.cat(patches),
        "image_grid_thw": grid,
        "num_images": counts,
    }
    taken = take_rows(batch, chosen)
    assert taken["num_images"] == [counts[row] for row in chosen]
    assert torch.equal(taken["pixel_values"], torch.cat([patches[row] for row in chosen]))


def test_one_image_a_row_in_batch_first_layout() -> None:
    pixels = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 3, 2, 2)
    batch = batch_of([([1], [2])] * 3) | {"pixel_values": pixels, "num_images": [1, 1, 1]}
    taken = take_rows(batch, [2, 0])
    assert taken["pixel_values"][:, 0, 0, 0].tolist() == [2.0, 0.0]
    assert taken["num_items_in_batch"] == 7
