"""Refined attempts take the place of first ones in TRL's generation batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from astune.refine.training.credit import Chain
from astune.refine.types import History, Sample
from astune.trl.advantages import refined_advantages
from astune.trl.layout import Batch, NewRow, replace_rows, row_count
from astune.trl.logprobs import fill_logprobs, loss_mask
from astune.trl.peers import Peers
from astune.trl.sampler import TrlDetail


def merge_histories(
    trainer: Any, batch: Batch, first_rewards: Tensor, histories: Sequence[History], peers: Peers
) -> Batch | None:
    """The batch with each refined row's attempt in the place of its first one; None where no process has any.

    Collective. Every field stays aligned by row, so that TRL may shuffle and split what comes back: ids and masks,
    log-probs under the refined prompt, type ids; images stay. Advantages are those of
    :func:`astune.trl.advantages.refined_advantages`, ``num_items_in_batch`` is counted again over all processes.

    Args:
        trainer: TRL's trainer.
        batch: what TRL made of the first attempts.
        first_rewards: (B,) total rewards of the first attempts, NaN where there is none.
        histories: of this process's refined rows.
        peers: the processes.
    """
    refined = {history.row: history for history in histories if history.kept > 0}
    if peers.largest(len(refined)) == 0:
        return None
    samples = {row: history.final.sample for row, history in refined.items()}
    merged = replace_rows(
        batch,
        {row: _new_row(trainer, sample) for row, sample in samples.items()},
        pad_id=trainer._tokenizer.pad_token_id,
        multiple_of=trainer.pad_to_multiple_of,
    )
    merged = fill_logprobs(trainer, merged, {row: sample.logprobs for row, sample in samples.items()}, peers)
    merged["num_items_in_batch"] = peers.gather(loss_mask(merged).sum().reshape(1)).sum()
    merged["advantages"] = _advantages(trainer, batch, first_rewards, refined, peers)
    return merged


def _new_row(trainer: Any, sample: Sample) -> NewRow:
    type_ids = sample.detail.type_ids if isinstance(sample.detail, TrlDetail) else {}
    masked = bool(trainer.mask_truncated_completions and sample.truncated)
    return NewRow(sample.prompt_ids, sample.completion_ids, type_ids, masked)


def _advantages(
    trainer: Any, batch: Batch, first_rewards: Tensor, refined: Mapping[int, History], peers: Peers
) -> Tensor:
    """(B,) of this process, from the rewards of all: a task's rows may lie on several."""
    group = trainer.num_generations if trainer.model.training else trainer.num_generations_eval
    # One column an attempt; NaN is an attempt that could not be graded, inf one that was not made.
    turns = peers.largest(max((history.kept + 1 for history in refined.values()), default=1))
    rewards = torch.full((row_count(batch), turns), math.inf, device=peers.device)
    rewards[:, 0] = first_rewards.masked_fill(torch.isinf(first_rewards), torch.nan)
    for row, history in refined.items():
        for turn, attempt in enumerate(history.attempts[1 : history.kept + 1], start=1):
            rewards[row, turn] = math.nan if attempt.grade.reward is None else attempt.grade.reward
    chains = [
        Chain(task=index // group, rewards=tuple(reward for reward in row if not math.isinf(reward)))
        for index, row in enumerate(peers.gather(rewards).tolist())
    ]
    first_advantages = peers.gather(batch["advantages"])
    return peers.mine(refined_advantages(first_advantages, chains, trainer.scale_rewards))
