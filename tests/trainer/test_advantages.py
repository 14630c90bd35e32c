"""Advantages: hand-made numbers, and TRL's own code on the same rewards where it can be reached."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from astune.trainer.advantages import (
    ADVANTAGES,
    STD_EPS,
    dr_grpo_advantages,
    grpo_advantages,
    informative_groups,
    kl_penalised,
    rewards_tensor,
    rloo_advantages,
)

REWARDS_PG = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5], [1.0, 0.2, -0.3, 0.0]])


def ungraded() -> Tensor:
    """Rewards with ungradable samples: one, all but one, and all of a group."""
    rewards_PG = REWARDS_PG.repeat(2, 1)
    rewards_PG[0, 1] = rewards_PG[2, :3] = rewards_PG[4] = torch.nan
    return rewards_PG


def test_group_advantages_by_hand() -> None:
    advantages = grpo_advantages(torch.tensor([[1.0, 0.0]]))
    expected = 0.5 / (math.sqrt(0.5) + STD_EPS)
    assert advantages.tolist()[0] == pytest.approx([expected, -expected])


def test_dr_grpo_does_not_divide() -> None:
    assert dr_grpo_advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0]])).tolist() == [[0.5, -0.5, -0.5, 0.5]]


def test_rloo_leaves_the_sample_itself_out() -> None:
    assert rloo_advantages(torch.tensor([[3.0, 0.0, 1.5]])).tolist() == [[2.25, -2.25, 0.0]]


def test_batch_scaling_divides_all_groups_by_one_number() -> None:
    ratio = dr_grpo_advantages(REWARDS_PG) / grpo_advantages(REWARDS_PG, scale="batch")
    assert torch.allclose(ratio[~ratio.isnan()], REWARDS_PG.std() + STD_EPS)


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_an_index_tensor_and_a_matrix_agree(name: str) -> None:
    rewards_PG = ungraded()
    group_N = torch.arange(len(rewards_PG)).repeat_interleave(4)
    order = torch.randperm(len(group_N), generator=torch.Generator().manual_seed(0))
    by_index = ADVANTAGES[name](rewards_PG.reshape(-1)[order], group_N[order])
    assert torch.allclose(by_index, ADVANTAGES[name](rewards_PG, None).reshape(-1)[order], atol=1e-6)


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_an_ungradable_sample_has_no_advantage_and_no_part_in_the_baseline(name: str) -> None:
    with_hole = ADVANTAGES[name](rewards_tensor([1.0, None, 0.0, 0.2]), torch.zeros(4, dtype=torch.long))
    without = ADVANTAGES[name](rewards_tensor([1.0, 0.0, 0.2]), torch.zeros(3, dtype=torch.long))
    assert with_hole[1] == 0 and torch.allclose(with_hole[[0, 2, 3]], without)


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_a_lonely_gradable_sample_has_no_advantage(name: str) -> None:
    assert ADVANTAGES[name](rewards_tensor([None, 0.7]), torch.zeros(2, dtype=torch.long)).tolist() == [0.0, 0.0]


def test_groups_of_different_sizes() -> None:
    advantages = dr_grpo_advantages(torch.tensor([1.0, 0.0, 4.0, 1.0, 1.0]), torch.tensor([1, 1, 0, 0, 0]))
    assert advantages.tolist() == [0.5, -0.5, 2.0, -1.0, -1.0]


def test_only_groups_with_different_rewards_are_informative() -> None:
    assert informative_groups(ungraded()).tolist() == [True, False, False, True, False, True]


def test_equal_rewards_that_do_not_sum_exactly_are_not_informative() -> None:
    assert informative_groups(torch.full((1, 7), 0.1)).tolist() == [False]


def test_the_kl_penalty_is_taken_from_the_reward() -> None:
    assert kl_penalised(torch.tensor([1.0, 0.0]), torch.tensor([2.0, -2.0]), 0.25).tolist() == [0.5, 0.5]


def test_a_vector_without_groups_is_refused() -> None:
    with pytest.raises(ValueError, match="must be"):
        grpo_advantages(torch.zeros(4))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_grpo_advantages_equal_trl(
    scale: Any, grpo_peer: Callable[..., Any], peer_advantages: Callable[[Any, Tensor], Tensor]
) -> None:
    rewards_PG = ungraded()
    theirs = peer_advantages(grpo_peer(24, 4, scale_rewards=scale), rewards_PG.reshape(-1))
    assert torch.allclose(grpo_advantages(rewards_PG, scale=scale).reshape(-1), theirs, atol=1e-6)


@pytest.mark.parametrize("normalise", [False, True])
def test_rloo_advantages_equal_trl(
    normalise: bool, rloo_peer: Callable[..., Any], peer_advantages: Callable[[Any, Tensor], Tensor]
) -> None:
    rewards_PG = ungraded()
    theirs = peer_advantages(rloo_peer(24, 4, beta=0.0, normalize_advantages=normalise), rewards_PG.reshape(-1))
    assert torch.allclose(rloo_advantages(rewards_PG, normalise=normalise).reshape(-1), theirs, atol=1e-6)
