"""How good the best model so far was, against what had been spent."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Curve:
    """A step function: from ``seconds[k]`` on the best dev score so far was ``best[k]`` (percent).

    ``seconds`` starts at 0 and rises strictly; ``best`` starts at ``baseline`` or above and never falls.
    """

    baseline: float
    seconds: tuple[float, ...]
    best: tuple[float, ...]
    budget: float

    def at(self, seconds: float) -> float:
        """The best score after ``seconds``."""
        return self.best[max(bisect_right(self.seconds, seconds) - 1, 0)]

    @property
    def area(self) -> float:
        """Mean lead over the baseline during the whole budget, in percentage points.

        Rewards being good early: an agent that jumps to its final score at once has an area equal to its improvement.
        """
        ends = (*self.seconds[1:], self.budget)
        steps = zip(self.seconds, ends, self.best, strict=True)
        return sum((end - start) * (best - self.baseline) for start, end, best in steps) / self.budget


def curve(progress: Sequence[tuple[float, float]], baseline: float, budget: float) -> Curve:
    """The curve of one run from its (spent seconds, dev score) points, in any order.

    Before the first point one has the base model, so that the curve starts at ``baseline``, and worse models never
    lower it. Points after the budget do not count.

    Raises:
        ValueError: a budget that is not positive, or a point before the start.
    """
    if not budget > 0:
        raise ValueError(f"a budget must be positive, not {budget}")
    seconds, best = [0.0], [baseline]
    for spent, score in sorted(progress):
        if spent < 0:
            raise ValueError(f"a point at {spent} seconds lies before the start")
        if spent > budget or score <= best[-1]:
            continue
        if spent == seconds[-1]:
            best[-1] = score
        else:
            seconds.append(spent)
            best.append(score)
    return Curve(baseline, tuple(seconds), tuple(best), budget)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean of several seeds' curves, a step function again.

    Raises:
        ValueError: there are none, or their budgets differ.
    """
    if not curves or len({one.budget for one in curves}) > 1:
        raise ValueError("a mean curve needs at least one curve, and one budget for all")
    seconds = sorted({start for one in curves for start in one.seconds})
    best = [sum(one.at(start) for one in curves) / len(curves) for start in seconds]
    baseline = sum(one.baseline for one in curves) / len(curves)
    return Curve(baseline, tuple(seconds), tuple(best), curves[0].budget)
