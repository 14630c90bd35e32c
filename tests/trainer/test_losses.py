"""Losses: equal to TRL's own code on the same tensors, and exact under gradient accumulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from astune.trainer.losses import (
    LOSSES,
    LossConfig,
    MetricSums,
    TokenBatch,
    add_metrics,
    mean_metrics,
    normaliser,
    sequence_kl,
)

ROWS, LENGTH, MAX_LENGTH = 8, 12, 20


@dataclass
class Tensors:
    """One padded batch with ragged lengths and holes where tools spoke."""

    logps_BT: Tensor
    old_logps_BT: Tensor
    ref_logps_BT: Tensor
    completion_mask_BT: Tensor
    tool_mask_BT: Tensor
    advantages_B: Tensor

    @property
    def mask_BT(self) -> Tensor:
        return self.completion_mask_BT * self.tool_mask_BT

    def lengths(self) -> list[int]:
        return [int(n) for n in self.mask_BT.sum(-1)]


@pytest.fixture
def tensors() -> Tensors:
    generator = torch.Generator().manual_seed(3)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(ROWS, LENGTH, generator=generator)

    logps_BT = -noise(1.0).abs()
    lengths_B = torch.tensor([12, 7, 3, 1, 12, 9, 5, 2])
    completion_mask_BT = (torch.arange(LENGTH) < lengths_B[:, None]).long()
    tool_mask_BT = (torch.rand(ROWS, LENGTH, generator=generator) > 0.25).long()
    tool_mask_BT[:, 0] = 1
    return Tensors(
        logps_BT=logps_BT.requires_grad_(),
        old_logps_BT=logps_BT.detach() + noise(0.4),
        ref_logps_BT=logps_BT.detach() + noise(0.5),
        completion_mask_BT=completion_mask_BT,
        tool_mask_BT=tool_mask_BT,
        advantages_B=torch.tensor([1.0, -1.0, 0.3, -0.5, 0.0, 2.0, -2.0, 0.7]),
    )


def ours(
    name: str, data: Tensors, config: LossConfig, on_policy: bool = False
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Our loss on the padded tensors, its gradient, its mean metrics."""
    batch = TokenBatch.from_padded(
        data.logps_BT,
        data.advantages_B,
        data.mask_BT,
        old_logps_BT=None if on_policy else data.old_logps_BT,
        ref_logps_BT=data.ref_logps_BT if config.beta else None,
        entropies_BT=data.logps_BT.detach().abs(),
    )
    loss, metrics = LOSSES[name].function(batch, normaliser(data.lengths(), MAX_LENGTH), config)
    return loss.detach(), torch.autograd.grad(loss, data.logps_BT)[0], mean_metrics(metrics)


def peer_loss(trainer: Any, data: Tensors, extra: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """TRL's loss on the same tensors, and its gradient."""
    entropies_BT = data.logps_BT.detach().abs()
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (data.logps_BT, entropies_BT, None)
    trainer.max_completion_length = MAX_LENGTH
    inputs = {
        "prompt_ids": torch.zeros(ROWS, 1, dtype=torch.long),
        "prompt_mask": torch.ones(ROWS, 1, dtype=torch.long),
        "completion_ids": torch.zeros(ROWS, LENGTH, dtype=torch.long),
        "advantages": data.advantages_B,
        **extra,
    }
    loss = trainer._compute_loss(trainer.model, inputs)
    return loss.detach(), torch.autograd.grad(loss, data.logps_BT)[0]


TRL_NAMES = {
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "dapo": {"loss_type": "dapo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    "cispo": {"loss_type": "cispo"},
}
CONFIGS = {
    "plain": LossConfig(),
    "asymmetric clip": LossConfig(epsilon_low=0.1, epsilon_high=0.3, cispo_max=1.2),
    "two-sided clip": LossConfig(delta=1.5),
    "kl": LossConfig(beta=0.1, kl_bias_correction=False),
    "corrected kl": LossConfig(beta=0.1),
}


@pytest.mark.parametrize("on_policy", [False, True], ids=["old", "on-policy"])
@pytest.mark.parametrize("setting", CONFIGS)
@pytest.mark.parametrize("name", TRL_NAMES)
def test_equals_trl(name: str, setting: str, on_policy: bool, tensors: Tensors, grpo_peer: Callable[..., Any]) -> None:
    config = CONFIGS[setting]
    high = config.cispo_max if name == "cispo" else config.epsilon_high
    trainer = grpo_peer(
        ROWS, 2, epsilon=config.epsilon_low, epsilon_high=high, delta=config.delta, beta=config.beta, **TRL_NAMES[name]
    )
    trainer.args.use_bias_correction_kl = config.kl_bias_correction
    extra = {
        "completion_mask": tensors.completion_mask_BT,
        "tool_mask": tensors.tool_mask_BT,
        "ref_per_token_logps": tensors.ref_logps_BT,
        "num_items_in_batch": tensors.mask_BT.sum(),
    }
    if not on_policy:
        extra["old_per_token_logps"] = tensors.old_logps_BT
    their_loss, their_gradient = peer_loss(trainer, tensors, extra)
    loss, gradient, metrics = ours(name, tensors, config, on_policy)
    torch.testing.assert_close(loss, their_loss)
    torch.testing.assert_close(gradient, their_gradient)
    theirs = peer_metrics(trainer, name)
    if config.kl_bias_correction:
        theirs.pop("kl", None)  # TRL logs the corrected term, we the divergence itself
    assert {key: metrics[key] for key in theirs} == pytest.approx(theirs, abs=1e-6)


def peer_metrics(trainer: Any, name: str) -> dict[str, float]:
    """What TRL logged, under our names."""
    logged = {key: values[-1] for key, values in trainer._metrics["train"].items()}
    names = {"clip_low": "clip_ratio/low_mean", "clip_high": "clip_ratio/high_mean", "kl": "kl", "entropy": "entropy"}
    if name == "cispo":
        names["clip_high"] = "cispo_clip_ratio"
    return {ours_: logged[theirs] for ours_, theirs in names.items() if theirs in logged}


@pytest.mark.parametrize("epsilon", [0.1, 0.4])
def test_rloo_equals_trl(epsilon: float, tensors: Tensors, rloo_peer: Callable[..., Any]) -> None:
    mask_BT = tensors.mask_BT
    old_logps_B = (tensors.old_logps_BT * mask_BT).sum(1)
    trainer = rloo_peer(ROWS, 2, epsilon=epsilon, beta=0.0)
    theirs = peer_loss(trainer, tensors, {"completion_mask": mask_BT, "old_logps": old_logps_B})
    loss, gradient, metrics = ours("rloo", tensors, LossConfig(epsilon_low=epsilon, epsilon_high=epsilon))
    torch.testing.assert_close((loss, gradient), theirs)
    assert metrics == pytest.approx(peer_metrics(trainer, "rloo"), abs=1e-6)


def packed(data: Tensors, rows: list[int]) -> TokenBatch:
    """The same rows as a ragged stream of their counted tokens only."""
    mask = data.mask_BT[rows].bool()
    sequence_BT = torch.arange(len(rows))[:, None].expand_as(mask)
    return TokenBatch(
        logps_N=data.logps_BT[rows][mask],
        advantages_N=data.advantages_B[rows][:, None].expand_as(mask)[mask],
        sequence_N=sequence_BT[mask],
        n_sequences=len(rows),
        old_logps_N=data.old_logps_BT[rows][mask],
        ref_logps_N=data.ref_logps_BT[rows][mask],
        entropies_N=data.logps_BT.detach().abs()[rows][mask],
    )


@pytest.mark.parametrize("name", LOSSES)
def test_packed_micro_batches_add_up_to_the_padded_batch(name: str, tensors: Tensors) -> None:
    config = LossConfig(beta=0.1)
    loss, gradient, metrics = ours(name, tensors, config)
    norm = normaliser(tensors.lengths(), MAX_LENGTH)
    total, sums = torch.zeros(()), MetricSums()
    for rows in ([6, 1], [0, 2, 3, 7], [4, 5]):
        part, part_metrics = LOSSES[name].function(packed(tensors, rows), norm, config)
        torch.autograd.backward([part])
        total, sums = total + part.detach(), add_metrics(sums, part_metrics)
    torch.testing.assert_close((total, tensors.logps_BT.grad), (loss, gradient))
    assert mean_metrics(sums) == pytest.approx(metrics, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_without_advantage_may_be_left_out(name: str, tensors: Tensors) -> None:
    loss, gradient, _ = ours(name, tensors, LossConfig())
    batch = packed(tensors, [row for row in range(ROWS) if tensors.advantages_B[row] != 0])
    part, _ = LOSSES[name].function(batch, normaliser(tensors.lengths(), MAX_LENGTH), LossConfig())
    torch.autograd.backward([part])
    torch.testing.assert_close((part.detach(), tensors.logps_BT.grad), (loss, gradient))


@pytest.mark.parametrize("name", LOSSES)
def test_the_mask_keeps_gradients_out(name: str, tensors: Tensors) -> None:
    _, gradient, _ = ours(name, tensors, LossConfig(beta=0.0))
    assert gradient[tensors.mask_BT == 0].abs().max() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_a_sequence_without_counted_tokens_is_harmless(name: str, tensors: Tensors) -> None:
    tensors.tool_mask_BT[5] = 0
    loss, gradient, _ = ours(name, tensors, LossConfig(beta=0.1))
    assert loss.isfinite() and gradient.isfinite().all() and gradient[5].abs().max() == 0


def test_on_policy_gradients_are_those_of_reinforce(tensors: Tensors) -> None:
    _, gradient, _ = ours("dapo", tensors, LossConfig(), on_policy=True)
    expected = -tensors.advantages_B[:, None] * tensors.mask_BT / tensors.mask_BT.sum()
    torch.testing.assert_close(gradient, expected)


def test_a_kl_term_without_reference_is_refused(tensors: Tensors) -> None:
    batch = replace(packed(tensors, [0]), ref_logps_N=None)
    with pytest.raises(ValueError, match="ref_logps_N"):
        LOSSES["grpo"].function(batch, normaliser([12], MAX_LENGTH), LossConfig(beta=0.1))


def test_sequence_kl_sums_log_ratios() -> None:
    kl = sequence_kl(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0, 0, 2]), 3)
    assert kl.tolist() == [2.0, 0.0, 2.5]
