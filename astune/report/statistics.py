"""How sure a rate is: intervals for one proportion, and for the difference between two paired runs."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

#: Two-sided 95 % quantile of the standard normal distribution.
Z95 = 1.959963984540054


def wilson_interval(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson, 1927); honest near 0 and 1, where the textbook one is not.

    Args:
        successes: How many of ``n`` succeeded.
        n: Sample size; 0 gives the interval that knows nothing, (0, 1).
        z: Normal quantile of the level; the default is 95 %.

    Raises:
        ValueError: ``successes`` is not in ``0..n``.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    denominator = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / denominator
    half = z / denominator * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At 0 and n the exact bounds are 0 and 1; rounding must not lose them.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high


def mcnemar_p(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Exact two-sided McNemar test (McNemar, 1947) on paired outcomes of the same problems.

    Only problems whose outcome changed carry information: under "no difference" each is a fair coin.
    """
    gained = sum(b < a for b, a in zip(before, after, strict=True))
    lost = sum(b > a for b, a in zip(before, after, strict=True))
    changed, tail = gained + lost, min(gained, lost)
    if changed == 0:
        return 1.0
    return min(1.0, 2 * sum(math.comb(changed, k) for k in range(tail + 1)) / (1 << changed))


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Change of a rate on the same problems: its size, its 95 % interval, and McNemar's p."""

    difference: float
    ci95: tuple[float, float]
    p_value: float


def paired_difference(
    before: Sequence[bool], after: Sequence[bool], resamples: int = 2000, seed: int = 0
) -> PairedDifference:
    """Percentile bootstrap over problems of ``mean(after) - mean(before)``; the same seed gives the same interval.

    Raises:
        ValueError: the two sequences differ in length, or are empty.
    """
    changes = [int(a) - int(b) for b, a in zip(before, after, strict=True)]
    if not changes:
        raise ValueError("no paired outcomes to compare")
    n, rng = len(changes), random.Random(seed)
    means = sorted(sum(rng.choices(changes, k=n)) / n for _ in range(resamples))
    low = means[math.floor(0.025 * (resamples - 1))]
    high = means[math.ceil(0.975 * (resamples - 1))]
    return PairedDifference(sum(changes) / n, (low, high), mcnemar_p(before, after))
