"""Learning-rate schedules and the optimiser's parameter groups."""

import pytest
import torch
from torch import nn

from astune.trainer.optim import adamw, clip_gradients, set_learning_rate
from astune.trainer.schedule import learning_rate


def test_constant_stays_at_the_peak() -> None:
    assert [learning_rate(step, 2.0, 4) for step in range(6)] == [2.0] * 6


def test_warm_up_rises_linearly_to_the_peak() -> None:
    assert [learning_rate(step, 1.0, 10, warmup_steps=3) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_linear_falls_to_zero_at_the_last_step() -> None:
    rates = [learning_rate(step, 1.0, 4, schedule="linear") for step in range(5)]
    assert rates == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_cosine_is_half_way_down_at_half_time() -> None:
    assert learning_rate(6, 1.0, 10, warmup_steps=2, schedule="cosine") == pytest.approx(0.5)


def test_a_step_past_the_end_keeps_the_last_rate() -> None:
    assert learning_rate(99, 1.0, 10, schedule="cosine") == pytest.approx(0.0)


def test_an_unknown_schedule_is_named() -> None:
    with pytest.raises(ValueError, match="polynomial"):
        learning_rate(0, 1.0, 10, schedule="polynomial")  # type: ignore[arg-type]


def test_norms_and_biases_are_not_decayed() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    optimizer = adamw(model, 0.0, weight_decay=0.1)
    decayed = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    linear = model[0]
    assert isinstance(linear, nn.Linear)
    assert {name for name, p in model.named_parameters() if decayed[id(p)] > 0} == {"0.weight"}


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Linear(3, 2)
    model.weight.requires_grad_(False)
    assert sum(len(group["params"]) for group in adamw(model, 1e-3).param_groups) == 1


def test_a_model_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter"):
        adamw(nn.Linear(1, 1).requires_grad_(False), 1e-3)


def test_the_learning_rate_reaches_every_group() -> None:
    optimizer = adamw(nn.Linear(3, 2), 1e-3)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


@pytest.mark.parametrize(("limit", "after"), [(1.0, 1.0), (0.0, 5.0), (9.0, 5.0)])
def test_clipping_returns_the_norm_before(limit: float, after: float) -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([weight], limit) == pytest.approx(5.0)
    assert weight.grad.norm().item() == pytest.approx(after, rel=1e-4)
