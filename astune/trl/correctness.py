"""Which attempts are correct: what the trainer's reward functions say, never a second parser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from astune.errors import ConfigError
from astune.refine.types import Grade


@dataclass(frozen=True, slots=True)
class Correctness:
    """An attempt is correct when one reward function gives it at least ``threshold``.

    ``reward`` names the function (TRL's name of it: a function's own, a reward model's last part of its id).
    The others shape the reward and have no say here.
    """

    reward: str
    threshold: float

    @classmethod
    def of(cls, names: Sequence[str], reward: str | None, threshold: float) -> Correctness:
        """With ``reward`` None, the first of the trainer's reward functions decides.

        Raises:
            ConfigError: there is no reward function of that name.
        """
        if reward is not None and reward not in names:
            raise ConfigError(f"correctness_reward: no reward function {reward!r}; there are {', '.join(names)}")
        return cls(names[0] if reward is None else reward, threshold)

    def verdicts(self, rewards: Tensor, names: Sequence[str]) -> list[bool | None]:
        """(N, functions) rewards -> N verdicts; None where the function gave no reward (NaN)."""
        column = rewards[:, list(names).index(self.reward)].tolist()
        return [None if math.isnan(value) else value >= self.threshold for value in column]


def total_rewards(rewards: Tensor, weights: Tensor) -> Tensor:
    """(N, functions) -> (N,): TRL's weighted sum over the functions that gave a reward, NaN where none did."""
    total = (rewards * weights.to(rewards.device).unsqueeze(0)).nansum(dim=1)
    return torch.where(torch.isnan(rewards).all(dim=1), torch.nan, total)


def grades(rewards: Tensor, weights: Tensor, correctness: Correctness, names: Sequence[str]) -> list[Grade]:
    """(N, functions) rewards -> N grades: the weighted sum, and what the deciding function says."""
    totals = total_rewards(rewards, weights).tolist()
    verdicts = correctness.verdicts(rewards, names)
    return [
        Grade(reward=total if math.isfinite(total) else None, correct=verdict)
        for total, verdict in zip(totals, verdicts, strict=True)
    ]
