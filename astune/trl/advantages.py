"""Advantages of a batch in which refined attempts took the place of first ones (``replace`` of refine/credit.py)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from astune.refine.training.credit import Chain, replace

#: Added by TRL to each standard deviation that it divides by.
_EPSILON = 1e-4


def refined_advantages(first_N: Tensor, chains: Sequence[Chain], scale_rewards: str) -> Tensor:
    """TRL's advantages where a task has no refined row, and those of two groups, one a turn, where it has.

    An attempt is compared with the other attempts at its task in its turn, replaced ones included, then scaled as the
    trainer is told to (GRPOConfig's ``scale_rewards``): by the standard deviation of its group, of the batch, or not.
    A row that could not be graded gets 0.

    Args:
        first_N: TRL's advantages of the first attempts of all processes.
        chains: one a row.
        scale_rewards: ``group``, ``batch`` or ``none``.

    Returns:
        (N,) advantages.
    """
    refined = {chain.task for chain in chains if len(chain.rewards) > 1}
    scales = _scales(chains, scale_rewards)
    advantages = [
        0.0 if chain.task in refined else first for chain, first in zip(chains, first_N.tolist(), strict=True)
    ]
    for credit in replace(chains):
        task = chains[credit.chain].task
        if task in refined:
            advantages[credit.chain] = credit.advantage / scales[task, credit.turn]
    return torch.tensor(advantages, dtype=first_N.dtype, device=first_N.device)


def _scales(chains: Sequence[Chain], scale_rewards: str) -> dict[tuple[int, int], float]:
    """What the advantages of each (task, turn) are divided by; 1 where there are not two attempts to differ."""
    groups: dict[tuple[int, int], list[float]] = defaultdict(list)
    last: list[float] = []
    for chain in chains:
        for turn, reward in enumerate(chain.rewards, start=1):
            if reward is not None:
                groups[chain.task, turn].append(reward)
        if chain.rewards[-1] is not None:
            last.append(chain.rewards[-1])
    if scale_rewards == "none":
        return dict.fromkeys(groups, 1.0)
    if scale_rewards == "batch":
        return dict.fromkeys(groups, _spread(last))
    return {key: _spread(rewards) for key, rewards in groups.items()}


def _spread(rewards: Sequence[float]) -> float:
    if len(rewards) < 2:
        return 1.0
    mean = math.fsum(rewards) / len(rewards)
    return math.sqrt(math.fsum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1)) + _EPSILON
