"""Policy-gradient losses on per-token log-probabilities, as pure functions.

Every loss reads one :class:`TokenBatch`: tokens ``N`` in a flat stream, each belonging to one of
``S`` sequences. Padded ``[B, T]`` tensors become one through :meth:`TokenBatch.from_padded`; packed
rows are one already. A loss returns its value and metrics as sums, and divides by a
:class:`Normaliser` of the *whole* batch, so that values, gradients and metrics of micro-batches add
up to those of the batch exactly, however the rows are dealt out. A sequence is never split.

Formulas and defaults are those of TRL 1.16 (``GRPOTrainer._compute_loss``, ``RLOOTrainer._compute_loss``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

#: Metric name to ``tensor([sum, count])``: add over micro-batches, then :func:`mean_metrics`.
MetricSums = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Per-token inputs of a loss, all ``[N]``. Only ``logps_N`` carries gradients.

    ``old_logps_N`` None means strictly on-policy: the ratio is 1 and its gradient that of
    ``logps_N``. ``mask_N`` None means that every token counts.
    """

    logps_N: Tensor
    advantages_N: Tensor
    sequence_N: Tensor
    n_sequences: int
    old_logps_N: Tensor | None = None
    ref_logps_N: Tensor | None = None
    mask_N: Tensor | None = None
    entropies_N: Tensor | None = None

    @classmethod
    def from_padded(
        cls,
        logps_BT: Tensor,
        advantages: Tensor,
        mask_BT: Tensor,
        old_logps_BT: Tensor | None = None,
        ref_logps_BT: Tensor | None = None,
        entropies_BT: Tensor | None = None,
    ) -> TokenBatch:
        """From padded tensors ``[B, T]``; advantages are ``[B]`` or ``[B, T]``."""
        batch, length = logps_BT.shape
        advantages_BT = advantages[:, None].expand(batch, length) if advantages.dim() == 1 else advantages
        return cls(
            logps_N=logps_BT.reshape(-1),
            advantages_N=advantages_BT.reshape(-1),
            sequence_N=torch.arange(batch, device=logps_BT.device).repeat_interleave(length),
            n_sequences=batch,
            old_logps_N=_flat(old_logps_BT),
            ref_logps_N=_flat(ref_logps_BT),
            mask_N=_flat(mask_BT),
            entropies_N=_flat(entropies_BT),
        )

    @property
    def weight_N(self) -> Tensor:
        """The mask in the dtype of the log-probs."""
        return torch.ones_like(self.logps_N) if self.mask_N is None else self.mask_N.to(self.logps_N.dtype)

    @property
    def log_ratio_N(self) -> Tensor:
        """log pi / pi_old of each token."""
        old_N = self.logps_N.detach() if self.old_logps_N is None else self.old_logps_N
        return self.logps_N - old_N

    def only(self, index_M: Tensor) -> TokenBatch:
        """The tokens ``index_M`` alone; sequences keep their numbers."""

        def picked(value_N: Tensor | None) -> Tensor | None:
            return None if value_N is None else value_N[index_M]

        return TokenBatch(
            logps_N=self.logps_N[index_M],
            advantages_N=self.advantages_N[index_M],
            sequence_N=self.sequence_N[index_M],
            n_sequences=self.n_sequences,
            old_logps_N=picked(self.old_logps_N),
            ref_logps_N=picked(self.ref_logps_N),
            mask_N=picked(self.mask_N),
            entropies_N=picked(self.entropies_N),
        )

    def with_old_logps(self, old_logps_N: Tensor) -> TokenBatch:
        """The same tokens with other old log-probs."""
        return replace(self, old_logps_N=old_logps_N)

    def sequence_sum(self, value_N: Tensor) -> Tensor:
        """Sum over the counted tokens of each sequence, ``[S]``."""
        return value_N.new_zeros(self.n_sequences).index_add(0, self.sequence_N, value_N * self.weight_N)


@dataclass(frozen=True, slots=True)
class Normaliser:
    """Counts over the whole batch of one optimiser step, by which its losses are divided.

    ``sequences`` and ``tokens`` include the rows that are not forwarded because they carry no
    gradient; ``max_completion_length`` is the constant of Dr. GRPO.
    """

    sequences: int
    tokens: int
    max_completion_length: int


def normaliser(trained_tokens: Iterable[int], max_completion_length: int) -> Normaliser:
    """The normaliser of a batch from the number of trained tokens of each of its sequences."""
    counts = list(trained_tokens)
    return Normaliser(max(len(counts), 1), max(sum(counts), 1), max_completion_length)


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Constants of the losses.

    Ratios are clipped to [1 - ``epsilon_low``, 1 + ``epsilon_high``]; ``delta`` additionally caps the
    unclipped branch; ``cispo_max`` is the largest importance weight of CISPO; ``beta`` weighs the KL
    term to the reference, and ``kl_bias_correction`` multiplies it by the ratio, which makes its gradient
    that of the reverse KL (arXiv:2512.02556, sec. 3.1).
    """

    epsilon_low: float = 0.2
    epsilon_high: float = 0.2
    delta: float | None = None
    cispo_max: float = 5.0
    beta: float = 0.0
    kl_bias_correction: bool = True


LossFunction = Callable[[TokenBatch, Normaliser, LossConfig], tuple[Tensor, MetricSums]]


def grpo(batch: TokenBatch, norm: Normaliser, config: LossConfig) -> tuple[Tensor, MetricSums]:
    """Clipped token ratios, mean over the tokens of a sequence, mean over sequences (arXiv:2402.03300, eq. 3)."""
    return _token_loss(batch, per_sequence_weight(batch, norm), config)


def dr_grpo(batch: TokenBatch, norm: Normaliser, config: LossConfig) -> tuple[Tensor, MetricSums]:
    """Clipped token ratios, sum over tokens by a constant length, mean over sequences (arXiv:2503.20783)."""
    return _token_loss(batch, batch.weight_N / (norm.sequences * norm.max_completion_length), config)


def dapo(batch: TokenBatch, norm: Normaliser, config: LossConfig) -> tuple[Tensor, MetricSums]:
    """Clipped token ratios, mean over all trained tokens of the batch (arXiv:2503.14476, eq. 8)."""
    return _token_loss(batch, batch.weight_N / norm.tokens, config)


def gspo(batch: TokenBatch, norm: Normaliser, config: LossConfig) -> tuple[Tensor, MetricSums]:
    """Clipped sequence ratios, each the geometric mean of its tokens' ratios (arXiv:2507.18071, eq. 5 and 7)."""
    log_ratio_S = batch.sequence_sum(batch.log_ratio_N) / _lengths(batch)
    ratio_N = log_ratio_S.exp()[batch.sequence_N]
    weight_N = per_sequence_weight(batch, norm)
    loss_N = clipped_surrogate(ratio_N, batch.advantages_N, config)
    # One ratio a sequence: counted once each, not once a token.
    metrics = _clip_metrics(ratio_N.detach(), batch.advantages_N, weight_N * norm.sequences, config)
    return _with_kl(batch, loss_N, ratio_N, weight_N, config, metrics)


def cispo(batch: TokenBatch, norm: Normaliser, config: LossConfig) -> tuple[Tensor, MetricSums]:
    """REINFORCE with capped, detached importance weights, mean over trained tokens (arXiv:2506.13585, eq. 4)."""
    ratio_N = batch.log_ratio_N.exp()
    loss_N = -ratio_N.detach().clamp(max=config.cispo_max) * batch.advantages_N * batch.logps_N
    clipped_N = (ratio_N.detach() > config.cispo_max) & (batch.advantages_N > 0)
    metrics = {"clip_high": sum_count(clipped_N, batch.weight_N)}
    return _with_kl(batch, loss_N, ratio_N, batch.weight_N / norm.tokens, config, metrics)


def rloo(batch: TokenBatch, norm: Normaliser, config: LossConfig) -> tuple[Tensor, MetricSums]:
    """Clipped ratios of whole sequences, mean over sequences (arXiv:2402.14740).

    Advantages must be constant within a sequence. The KL term of RLOO belongs in the reward
    (:func:`astune.trainer.advantages.kl_penalised`), so ``beta`` adds nothing here.
    """
    ratio_S = batch.sequence_sum(batch.log_ratio_N).exp()
    advantage_S = batch.sequence_sum(batch.advantages_N) / _lengths(batch)
    counted_S = (batch.sequence_sum(torch.ones_like(batch.logps_N)) > 0).to(ratio_S.dtype)
    loss_S = clipped_surrogate(ratio_S, advantage_S, config)
    metrics = _clip_metrics(ratio_S.detach(), advantage_S, counted_S, config)
    return (loss_S * counted_S).sum() / norm.sequences, metrics | _monitor_metrics(batch)


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss, where its KL term goes, and the advantage estimator of its paper (a key of ``ADVANTAGES``)."""

    function: LossFunction
    kl_in: Literal["loss", "reward"] = "loss"
    advantages: str = "grpo"


LOSSES: dict[str, Loss] = {
    "grpo": Loss(grpo),
    "dr_grpo": Loss(dr_grpo, advantages="dr_grpo"),
    "dapo": Loss(dapo),
    "gspo": Loss(gspo),
    "cispo": Loss(cispo),
    "rloo": Loss(rloo, kl_in="reward", advantages="rloo"),
}


def clipped_surrogate(ratio: Tensor, advantage: Tensor, config: LossConfig) -> Tensor:
    """-min(r A, clip(r) A), elementwise; with ``delta`` the first r is capped too (arXiv:2505.07291, two-sided)."""
    clipped = ratio.clamp(1 - config.epsilon_low, 1 + config.epsilon_high)
    capped = ratio if config.delta is None else ratio.clamp(max=config.delta)
    return -torch.min(capped * advantage, clipped * advantage)


def k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Non-negative estimate of KL(pi || pi_ref) at each token: exp(d) - d - 1 with d = log pi_ref - log pi."""
    difference = ref_logps - logps
    return difference.exp() - difference - 1


def sequence_kl(logps_N: Tensor, ref_logps_N: Tensor, sequence_N: Tensor, n_sequences: int) -> Tensor:
    """First-order KL estimate of each sequence, sum of log pi - log pi_ref over its tokens: ``[S]`` (RLOO's)."""
    return logps_N.new_zeros(n_sequences).index_add(0, sequence_N, logps_N - ref_logps_N)


def add_metrics(total: MetricSums, part: MetricSums) -> MetricSums:
    """Sums of two micro-batches."""
    return {name: total.get(name, 0) + part.get(name, 0) for name in {**total, **part}}  # type: ignore[misc]


def mean_metrics(total: MetricSums) -> dict[str, float]:
    """Means over everything that was added; a metric that nothing contributed to is left out."""
    pairs = {name: pair.tolist() for name, pair in total.items()}
    return {name: sum_ / count for name, (sum_, count) in pairs.items() if count}


def _flat(value_BT: Tensor | None) -> Tensor | None:
    return None if value_BT is None else value_BT.reshape(-1)


def _lengths(batch: TokenBatch) -> Tensor:
    """Counted tokens of each sequence, at least 1: ``[S]``."""
    return batch.sequence_sum(torch.ones_like(batch.logps_N)).clamp(min=1)


def per_sequence_weight(batch: TokenBatch, norm: Normaliser) -> Tensor:
    """Weight of each token in a mean over sequences of means over tokens."""
    return batch.weight_N / (_lengths(batch)[batch.sequence_N] * norm.sequences)


def _token_loss(batch: TokenBatch, weight_N: Tensor, config: LossConfig) -> tuple[Tensor, MetricSums]:
    ratio_N = batch.log_ratio_N.exp()
    loss_N = clipped_surrogate(ratio_N, batch.advantages_N, config)
    metrics = _clip_metrics(ratio_N.detach(), batch.advantages_N, batch.weight_N, config)
    return _with_kl(batch, loss_N, ratio_N, weight_N, config, metrics)


def _with_kl(
    batch: TokenBatch, loss_N: Tensor, ratio_N: Tensor, weight_N: Tensor, config: LossConfig, metrics: MetricSums
) -> tuple[Tensor, MetricSums]:
    """Adds ``beta`` times the KL term where there is one, and sums with the given weights."""
    if config.beta != 0.0:
        if batch.ref_logps_N is None:
            raise ValueError("beta is not 0, so the loss needs ref_logps_N")
        kl_N = k3(batch.logps_N, batch.ref_logps_N)
        loss_N = loss_N + config.beta * (kl_N * ratio_N if config.kl_bias_correction else kl_N)
    return (loss_N * weight_N).sum(), metrics | _monitor_metrics(batch)


def _clip_metrics(ratio: Tensor, advantage: Tensor, weight: Tensor, config: LossConfig) -> MetricSums:
    """How often a clip took the gradient away, on either side."""
    low = (ratio < 1 - config.epsilon_low) & (advantage < 0)
    high = (ratio > 1 + config.epsilon_high) & (advantage > 0)
    return {"clip_low": sum_count(low, weight), "clip_high": sum_count(high, weight)}


def _monitor_metrics(batch: TokenBatch) -> MetricSums:
    """KL to the reference and entropy, where their inputs are given."""
    metrics: MetricSums = {}
    if batch.ref_logps_N is not None:
        metrics["kl"] = sum_count(k3(batch.logps_N.detach(), batch.ref_logps_N), batch.weight_N)
    if batch.entropies_N is not None:
        metrics["entropy"] = sum_count(batch.entropies_N.detach(), batch.weight_N)
    return metrics


def sum_count(value: Tensor, weight: Tensor) -> Tensor:
    """``tensor([sum, count])`` of a value, see :data:`MetricSums`."""
    return torch.stack([(value * weight).sum(), weight.sum()])
