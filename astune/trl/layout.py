"""Rows of TRL's generation batch, moved without TRL's trainer: taken out, and replaced by other completions.

TRL's batch is a dict: prompts padded on the left, completions on the right, fields of one value a row, and image
fields that may hold one entry an image, a tile or a patch. What is padding is told by the masks alone, for a
completion may hold the pad id as a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

Batch = dict[str, Any]

#: One value a token of the prompt and the completion: (B, P + C).
TYPE_ID_FIELDS = ("token_type_ids", "mm_token_type_ids")
#: One value a completion token, (B, C), with what padding holds; refined rows get theirs from a forward pass.
LOGPROB_FIELDS = {"old_per_token_logps": 0.0, "ref_per_token_logps": 0.0, "sampling_per_token_logps": 0.0}


@dataclass(frozen=True, slots=True)
class NewRow:
    """What takes a row's place: ids, and for each type-id field of the batch the ids of the prompt's tokens."""

    prompt_ids: list[int]
    completion_ids: list[int]
    type_ids: Mapping[str, list[int]] = field(default_factory=dict)
    #: Keep the completion out of the loss (TRL's ``mask_truncated_completions``).
    masked: bool = False


def row_count(batch: Batch) -> int:
    """Number of rows, B."""
    return int(batch["prompt_ids"].size(0))


def take_rows(batch: Batch, rows: Sequence[int]) -> Batch:
    """The batch of these rows, in this order; image fields follow their rows. Rows may repeat."""
    indices = list(rows)

    def taken(value: Any) -> Any:
        if value is None or (isinstance(value, Tensor) and value.ndim == 0):
            return value
        return value[indices] if isinstance(value, Tensor) else [value[index] for index in indices]

    by_row = split_pixel_values_by_grid(batch)
    picked: Batch = unsplit_pixel_values_by_grid({key: taken(value) for key, value in by_row.items()})
    return picked


def prompt_tokens(batch: Batch, row: int) -> list[int]:
    """The prompt's ids, without padding."""
    ids: list[int] = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()].tolist()
    return ids


def completion_tokens(batch: Batch, row: int) -> list[int]:
    """The completion's ids, without padding; none where the loss leaves the row out."""
    ids: list[int] = batch["completion_ids"][row][batch["completion_mask"][row].bool()].tolist()
    return ids


def replace_rows(batch: Batch, new: Mapping[int, NewRow], *, pad_id: int, multiple_of: int | None = None) -> Batch:
    """The batch with some rows replaced, padded to the longest prompt and completion that it now holds.

    Fields of images stay: a refined attempt is shown the images of its row. Log-probs of replaced rows are zero until
    someone fills them in; advantages and counts are the caller's, too. The batch given is left as it is.
    """
    if not new:
        return dict(batch)
    prompts = _Side(batch["prompt_mask"], {row: len(one.prompt_ids) for row, one in new.items()}, multiple_of)
    answers = _Side(batch["completion_mask"], {row: len(one.completion_ids) for row, one in new.items()}, multiple_of)
    prompt_ids = {row: one.prompt_ids for row, one in new.items()}
    completion_ids = {row: one.completion_ids for row, one in new.items()}
    seen = {row: [0 if one.masked else 1] * len(one.completion_ids) for row, one in new.items()}
    changed: Batch = {
        "prompt_ids": prompts.left(batch["prompt_ids"], pad_id, prompt_ids),
        "prompt_mask": prompts.left(batch["prompt_mask"], 0, {row: [1] * len(ids) for row, ids in prompt_ids.items()}),
        "completion_ids": answers.right(batch["completion_ids"], pad_id, completion_ids),
        "completion_mask": answers.right(batch["completion_mask"], 0, seen),
    }
    if "tool_mask" in batch:  # every token of a refined attempt is the model's own
        changed["tool_mask"] = answers.right(batch["tool_mask"], 1, seen)
    for key, padding in LOGPROB_FIELDS.items():
        if key in batch:
            changed[key] = answers.right(batch[key], padding, {row: [] for row in new})
    old_width = batch["prompt_ids"].size(1)
    for key in TYPE_ID_FIELDS:
        if key in batch:
            # A tokenizer names no types for a batch of text alone; text is type 0.
            of_prompts = {row: one.type_ids.get(key, [0] * len(one.prompt_ids)) for row, one in new.items()}
            before, after = batch[key][:, :old_width], batch[key][:, old_width:]
            parts = [prompts.left(before, 0, of_prompts), answers.right(after, 0, {row: [] for row in new})]
            changed[key] = torch.cat(parts, dim=1)
    return {**batch, **changed}


class _Side:
    """The new width of one side of the batch, and how its tensors are laid out again."""

    def __init__(self, mask: Tensor, new_lengths: Mapping[int, int], multiple_of: int | None) -> None:
        lengths = mask.sum(dim=1).tolist()
        kept = [length for row, length in enumerate(lengths) if row not in new_lengths]
        # A side of no width has no log-probs to keep; TRL slices with a negative width.
        width = max([*kept, *new_lengths.values(), 1])
        self.width = width if multiple_of is None else -(-width // multiple_of) * multiple_of

    def left(self, old: Tensor, padding: float, new: Mapping[int, Sequence[float]]) -> Tensor:
        """(B, old width) padded on the left -> (B, new width)."""
        laid = old.new_full((old.size(0), self.width), padding)
        common = min(self.width, old.size(1))
        laid[:, self.width - common :] = old[:, old.size(1) - common :]
        for row, values in new.items():
            laid[row] = padding
            laid[row, self.width - len(values) :] = torch.as_tensor(values, dtype=old.dtype)
        return laid

    def right(self, old: Tensor, padding: float, new: Mapping[int, Sequence[float]]) -> Tensor:
        """(B, old width) padded on the right -> (B, new width)."""
        laid = old.new_full((old.size(0), self.width), padding)
        common = min(self.width, old.size(1))
        laid[:, :common] = old[:, :common]
        for row, values in new.items():
            laid[row] = padding
            laid[row, : len(values)] = torch.as_tensor(values, dtype=old.dtype)
        return laid
