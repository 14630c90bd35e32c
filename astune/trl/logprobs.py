"""Log-probs of refined rows, as TRL computes those of first attempts: under their own prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from astune.trl.layout import Batch, take_rows
from astune.trl.peers import Peers, filled

#: What TRL hands to the model besides ids and masks, where the batch has it.
FORWARD_FIELDS = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)


def fill_logprobs(trainer: Any, batch: Batch, sampled: dict[int, list[float] | None], peers: Peers) -> Batch:
    """The batch with the log-probs of refined rows, for the fields that TRL's batch has.

    Args:
        trainer: TRL's trainer.
        batch: with the refined rows in place.
        sampled: for each refined row, the log-probs under the sampling distribution where the sampler told them.
        peers: where the model is spread over processes, each runs as many forward passes as the one with most rows.
    """
    rows = list(sampled)
    filled_batch = dict(batch)
    with torch.no_grad(), disable_gradient_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs):
        if "old_per_token_logps" in batch:
            _put(filled_batch, "old_per_token_logps", rows, _forward(trainer, trainer.model, batch, rows, peers))
        if "ref_per_token_logps" in batch:
            with _reference(trainer) as model:
                _put(filled_batch, "ref_per_token_logps", rows, _forward(trainer, model, batch, rows, peers))
        if "sampling_per_token_logps" in batch:
            _put(filled_batch, "sampling_per_token_logps", rows, _sampling(trainer, filled_batch, sampled, peers))
    if "importance_sampling_ratio" in batch:
        filled_batch["importance_sampling_ratio"] = importance_ratio(
            filled_batch["old_per_token_logps"],
            filled_batch["sampling_per_token_logps"],
            loss_mask(filled_batch),
            mode=trainer.vllm_importance_sampling_mode,
            low=trainer.vllm_importance_sampling_clip_min,
            high=trainer.vllm_importance_sampling_clip_max,
        )
    return filled_batch


def loss_mask(batch: Batch) -> Tensor:
    """(B, C): the tokens that the loss reads."""
    mask: Tensor = batch["completion_mask"]
    return mask * batch["tool_mask"] if "tool_mask" in batch else mask


def importance_ratio(
    old: Tensor, sampling: Tensor, mask: Tensor, *, mode: str, low: float | None, high: float | None
) -> Tensor:
    """TRL's correction of a vLLM sampler that is not quite the trained model.

    Truncated importance sampling clamps exp(old - sampling) to [low, high]; masked importance sampling zeroes what
    lies outside. A token whose sampling log-prob is unknown (NaN) gets a ratio of 1.

    Returns:
        (B, C) for ``token_truncate`` and ``token_mask``; (B, 1) for ``sequence_truncate`` and ``sequence_mask``.
    """
    difference = torch.nan_to_num((old - sampling) * mask, nan=0.0)
    if mode.startswith("sequence"):
        difference = difference.sum(dim=-1, keepdim=True)
    ratio = difference.exp()
    if mode.endswith("truncate"):
        return ratio.clamp(min=low, max=high)
    outside = (ratio < (-math.inf if low is None else low)) | (ratio > (math.inf if high is None else high))
    return ratio.masked_fill(outside, 0.0)


def _forward(trainer: Any, model: Any, batch: Batch, rows: Sequence[int], peers: Peers) -> Tensor:
    """(rows, C) log-probs of the completions of these rows."""
    taken = filled(rows, peers.largest(len(rows)), 0) if peers.model_is_shared else list(rows)
    width = batch["completion_ids"].size(1)
    if not taken:
        return torch.zeros((0, width), device=peers.device)
    part = take_rows(batch, taken)
    args = trainer.args
    size = args.per_device_train_batch_size if trainer.model.training else args.per_device_eval_batch_size
    logps, _, _ = trainer._get_per_token_logps_and_entropies(
        model,
        torch.cat([part["prompt_ids"], part["completion_ids"]], dim=1),
        torch.cat([part["prompt_mask"], part["completion_mask"]], dim=1),
        width,
        batch_size=size,
        **{key: part[key] for key in FORWARD_FIELDS if key in part},
    )
    wanted: Tensor = logps[: len(rows)]
    return wanted


def _sampling(trainer: Any, batch: Batch, sampled: dict[int, list[float] | None], peers: Peers) -> Tensor:
    """(rows, C); the model's own log-probs where no engine told any, for then it was the model that sampled."""
    if not trainer.use_vllm:
        return _forward(trainer, trainer.model, batch, list(sampled), peers)
    told = torch.zeros((len(sampled), batch["completion_ids"].size(1)), device=peers.device)
    for index, values in enumerate(sampled.values()):
        known = [math.nan if value is None else value for value in values or []]
        told[index, : len(known)] = torch.tensor(known, device=peers.device)
    return told


@contextmanager
def _reference(trainer: Any) -> Iterator[Any]:
    """The model that the KL term compares with: TRL's own, or the policy without what its adapter has learnt."""
    if trainer.ref_model is not None:
        yield trainer.ref_model
        return
    unwrapped = trainer.accelerator.unwrap_model(trainer.model)
    with use_adapter(unwrapped, adapter_name="ref" if "ref" in unwrapped.peft_config else None):
        yield trainer.model


def _put(batch: Batch, key: str, rows: Sequence[int], values: Tensor) -> None:
    # Positions beyond a completion hold whatever the forward pass left there; nothing reads them.
    batch[key] = batch[key].clone()
    batch[key][list(rows)] = values.to(batch[key].dtype)
