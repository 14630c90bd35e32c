"""The expert loss: values by hand, gradients by autograd."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from astune.refine.training.expert_loss import expert_factor, expert_surrogate

P_N = torch.tensor([1e-6, 0.01, 0.1, 0.5, 1.0], dtype=torch.float64)
MU_N = torch.tensor([0.5, 0.5, 0.02, 0.5, 0.8], dtype=torch.float64)
KINDS = ("shaped", "tis", "logp")


def test_shaped_is_p_over_p_plus_a_tenth() -> None:
    assert torch.allclose(expert_surrogate(P_N.log(), "shaped"), P_N / (P_N + 0.1))


def test_tis_is_the_capped_ratio_times_the_log_probability() -> None:
    expected = torch.tensor([2e-6, 0.02, 2.0, 1.0, 1.25], dtype=torch.float64) * P_N.log()
    assert torch.allclose(expert_surrogate(P_N.log(), "tis", MU_N.log()), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_factor_times_grad_log_p(kind) -> None:
    logps_N = P_N.log().requires_grad_()
    expert_surrogate(logps_N, kind, MU_N.log()).sum().backward()
    assert torch.allclose(logps_N.grad, expert_factor(P_N.log(), kind, MU_N.log()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_on_the_logits_of_a_softmax(kind) -> None:
    """Ascending a surrogate of token 0 moves the logits by factor * (onehot - p): the update of the tabular toy."""
    logits = torch.tensor([-3.0, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    logp = logits.log_softmax(-1)[:1]
    mu = torch.tensor([math.log(0.3)], dtype=torch.float64)
    expert_surrogate(logp, kind, mu).sum().backward()
    step = torch.tensor([1.0, 0, 0], dtype=torch.float64) - logits.detach().softmax(-1)
    assert torch.allclose(logits.grad, expert_factor(logp.detach(), kind, mu) * step)


def test_shaped_pulls_hardest_at_its_constant() -> None:
    logps_N = torch.linspace(1e-4, 1, 10_000, dtype=torch.float64).log()
    factor_N = expert_factor(logps_N, "shaped")
    assert logps_N[factor_N.argmax()].exp().item() == pytest.approx(0.1, abs=1e-3)
    assert factor_N.max().item() == pytest.approx(0.25)


@settings(max_examples=50, deadline=None)
@given(st.floats(-60, -5), st.floats(-2, 0))
def test_rare_tokens_are_lifted_by_logp_only(logp, sampled) -> None:
    logp_N, sampled_N = torch.tensor([logp]), torch.tensor([sampled])
    assert expert_factor(logp_N, "shaped") < 0.1
    assert expert_factor(logp_N, "tis", sampled_N) < 0.1
    assert expert_factor(logp_N, "logp") == 1


@settings(max_examples=50, deadline=None)
@given(st.floats(-200, 0))
def test_shaped_stays_finite(logp) -> None:
    logp_N = torch.tensor([logp], requires_grad=True)
    value = expert_surrogate(logp_N, "shaped")
    value.sum().backward()
    assert 0 <= value.item() < 1
    assert logp_N.grad.isfinite().all()


def test_tis_needs_the_sampling_log_probs() -> None:
    with pytest.raises(ValueError, match="tis needs the log-probs"):
        expert_surrogate(P_N.log(), "tis")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="shaped, tis or logp"):
        expert_surrogate(P_N.log(), "sft")  # type: ignore[arg-type]
