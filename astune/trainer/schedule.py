"""Learning-rate schedules: pure functions of the step."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


def learning_rate(
    step: int, peak: float, total_steps: int, warmup_steps: int = 0, schedule: Schedule = "constant"
) -> float:
    """Learning rate of optimiser step ``step`` (from 0).

    It rises linearly over ``warmup_steps`` steps (the first of them already moves), reaches ``peak``, then stays
    there, or falls to 0 at ``total_steps`` along a line or a half cosine.

    Raises:
        ValueError: an unknown schedule, or a negative step.
    """
    if step < 0:
        raise ValueError(f"step must not be negative, got {step}")
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    done = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
    if schedule == "constant":
        return peak
    if schedule == "linear":
        return peak * (1 - done)
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * done))
    raise ValueError(f"unknown learning-rate schedule {schedule!r}: constant, linear or cosine")
