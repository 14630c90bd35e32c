"""The loss of expert rows: refinements that are trained behind a prompt other than the one they were sampled from."""

from __future__ import annotations

import torch
from torch import Tensor

from astune.refine.training.expert_loss import RARE, ExpertWeight, expert_factor, expert_surrogate
from astune.trainer.losses import (
    LossConfig,
    LossFunction,
    MetricSums,
    Normaliser,
    TokenBatch,
    per_sequence_weight,
    sum_count,
)


def expert_loss(weight: ExpertWeight, tis_max: float) -> LossFunction:
    """Minus advantage times surrogate, mean over the tokens of a sequence, mean over sequences; nothing is clipped.

    The batch's old log-probs are those that the tokens were sampled with, behind their own prompt. Metrics: the share
    of tokens below a probability of 0.01, which ``shaped`` and ``tis`` hardly lift, and the mean factor on grad log p.
    """

    def loss(batch: TokenBatch, norm: Normaliser, config: LossConfig) -> tuple[Tensor, MetricSums]:
        surrogate_N = expert_surrogate(batch.logps_N, weight, batch.old_logps_N, cap=tis_max)
        value = (-batch.advantages_N * surrogate_N * per_sequence_weight(batch, norm)).sum()
        with torch.no_grad():
            logps_N = batch.logps_N.detach()
            factor_N = expert_factor(logps_N, weight, batch.old_logps_N, cap=tis_max)
            metrics = {
                "rare_tokens": sum_count(logps_N.exp() < RARE, batch.weight_N),
                "expert_factor": sum_count(factor_N, batch.weight_N),
            }
        return value, metrics

    return loss
