"""Group-relative advantages: how much better a sample did than the others of its task.

Pure functions on rewards. Samples are the rows ``N`` of a batch; ``group_N`` holds each sample's
group as an integer, and without it rewards come as ``[P, G]``, one group a row. An ungradable sample
has the reward NaN (None in a list, see :func:`rewards_tensor`): it takes no part in any baseline
or spread, and its advantage is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

#: Added to a standard deviation before dividing by it (the value of TRL 1.16).
STD_EPS = 1e-4

Scale = Literal["group", "batch", "none"]


def rewards_tensor(rewards: Sequence[float | None]) -> Tensor:
    """Rewards as a float32 tensor ``[N]``, NaN where a sample could not be graded."""
    return torch.tensor([float("nan") if reward is None else reward for reward in rewards], dtype=torch.float32)


def grpo_advantages(rewards: Tensor, group_N: Tensor | None = None, scale: Scale = "group") -> Tensor:
    """Reward minus the mean of its group, over a standard deviation (Shao et al., 2024, arXiv:2402.03300, sec. 4.1).

    Args:
        rewards: ``[N]`` with ``group_N``, or ``[P, G]``; NaN marks an ungradable sample.
        group_N: group of each sample, integers from 0.
        scale: divide by the (unbiased) standard deviation of the group, of the whole batch, or not at all.

    Returns:
        Advantages in the shape of ``rewards``; 0 for ungradable samples and for the only gradable one of a group.
    """
    reward_N, group_N = _flat(rewards, group_N)
    centred_N = reward_N - _group_mean(reward_N, group_N)[group_N]
    if scale == "group":
        centred_N = centred_N / (_group_std(reward_N, group_N)[group_N] + STD_EPS)
    elif scale == "batch":
        centred_N = centred_N / (_std(reward_N) + STD_EPS)
    return centred_N.nan_to_num(nan=0.0).view_as(rewards)


def dr_grpo_advantages(rewards: Tensor, group_N: Tensor | None = None) -> Tensor:
    """Reward minus the mean of its group, undivided (Liu et al., 2025, arXiv:2503.20783, "GRPO done right").

    Shapes as in :func:`grpo_advantages`.
    """
    return grpo_advantages(rewards, group_N, scale="none")


def rloo_advantages(rewards: Tensor, group_N: Tensor | None = None, normalise: bool = False) -> Tensor:
    """Reward minus the mean of the *other* samples of its group (Ahmadian et al., 2024, arXiv:2402.14740, eq. 8).

    Args:
        rewards: ``[N]`` with ``group_N``, or ``[P, G]``; NaN marks an ungradable sample.
        group_N: group of each sample, integers from 0.
        normalise: afterwards subtract the batch's mean advantage and divide by its standard deviation.
    """
    reward_N, group_N = _flat(rewards, group_N)
    sum_P, count_P = _group_sums(reward_N, group_N)
    advantage_N = reward_N - (sum_P[group_N] - reward_N) / (count_P[group_N] - 1)
    advantage_N = torch.where(count_P[group_N] > 1, advantage_N, torch.nan)
    if normalise:
        advantage_N = (advantage_N - advantage_N.nanmean()) / (_std(advantage_N) + STD_EPS)
    return advantage_N.nan_to_num(nan=0.0).view_as(rewards)


def kl_penalised(rewards: Tensor, kl: Tensor, beta: float) -> Tensor:
    """Rewards less ``beta`` times each sample's summed log-ratio to the reference: RLOO's place for the KL term."""
    return rewards - beta * kl


def informative_groups(rewards: Tensor, group_N: Tensor | None = None) -> Tensor:
    """Which groups can teach anything: those whose gradable raw rewards are not all equal.

    Returns:
        Booleans ``[P]``. Every advantage of the other groups is 0.
    """
    reward_N, group_N = _flat(rewards, group_N)
    scorable_N = ~reward_N.isnan()
    groups = _group_count(group_N)
    low_P = reward_N.new_full((groups,), torch.inf).scatter_reduce(0, group_N[scorable_N], reward_N[scorable_N], "amin")
    high_P = reward_N.new_full((groups,), -torch.inf).scatter_reduce(
        0, group_N[scorable_N], reward_N[scorable_N], "amax"
    )
    return high_P > low_P


#: Estimators by name, each called as ``(rewards, group_N)``.
ADVANTAGES: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "grpo": grpo_advantages,
    "dr_grpo": dr_grpo_advantages,
    "rloo": rloo_advantages,
    "batch_std": partial(grpo_advantages, scale="batch"),
}


def _flat(rewards: Tensor, group_N: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rewards ``[N]`` and their groups, from either layout."""
    if group_N is not None:
        if rewards.shape != group_N.shape or rewards.dim() != 1:
            raise ValueError(f"rewards {tuple(rewards.shape)} and groups {tuple(group_N.shape)} must both be [N]")
        return rewards, group_N
    if rewards.dim() != 2:
        raise ValueError(f"rewards without group indices must be [P, G], not {tuple(rewards.shape)}")
    groups, size = rewards.shape
    return rewards.reshape(-1), torch.arange(groups, device=rewards.device).repeat_interleave(size)


def _group_count(group_N: Tensor) -> int:
    return int(group_N.max()) + 1 if group_N.numel() else 0


def _group_sums(value_N: Tensor, group_N: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and count of the non-NaN values of each group, ``[P]`` each."""
    zeros_P = value_N.new_zeros(_group_count(group_N))
    scorable_N = ~value_N.isnan()
    sum_P = zeros_P.index_add(0, group_N, value_N.nan_to_num(nan=0.0))
    return sum_P, zeros_P.index_add(0, group_N, scorable_N.to(value_N.dtype))


def _group_mean(value_N: Tensor, group_N: Tensor) -> Tensor:
    sum_P, count_P = _group_sums(value_N, group_N)
    return sum_P / count_P


def _group_std(value_N: Tensor, group_N: Tensor) -> Tensor:
    """Unbiased standard deviation of each group, NaN below two values."""
    squares_N = (value_N - _group_mean(value_N, group_N)[group_N]) ** 2
    sum_P, count_P = _group_sums(squares_N, group_N)
    return torch.where(count_P > 1, sum_P / (count_P - 1), torch.nan).sqrt()


def _std(value_N: Tensor) -> Tensor:
    """Unbiased standard deviation over the non-NaN values, NaN below two of them."""
    return _group_std(value_N, torch.zeros_like(value_N, dtype=torch.long))[0]
