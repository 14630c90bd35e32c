"""Means with intervals over seeds and items: a hierarchical bootstrap, sized for the few seeds that a laptop affords.

A run with seed s gives one difference an item; the estimate is the mean over seeds of the runs' means.
Two ways in which items and seeds meet:

- nested: each seed draws its own items (a generator's hidden test). Resample seeds, then items within each run.
- crossed: all seeds share one list of items (a fixed test file). Resample seeds, and one list of items for all of
  them, because an item that is hard is hard for every seed (Owen, "The pigeonhole bootstrap", 2007).

The plain bootstrap is wrong in a known way when seeds are few: with three it sees two thirds of the variance between
seeds, counts the items' noise twice, and uses normal tails. So only its shape is kept. The deviations of its draws are
scaled to the unbiased variance (the rescaling of Rao and Wu, 1988) and to Student's t quantile with the
Welch-Satterthwaite degrees of freedom. Notation: V_A is the variance of the mean as the spread between runs shows
it, V_E the part of it that the items' noise explains, V_B all that the choice of items adds. The variance is
max(V_A - V_E, 0) + V_B. In a nested design V_B equals V_E, so that it is V_A, and never less than the items' noise:
three runs that agree by chance do not make an interval of width 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astune.report.statistics import Z95
from autorl_bench.leaderboard.types import Estimate, Floats

RESAMPLES = 4000
_GRID = 20_001
#: Percentage points below which draws are equal but for rounding.
_NO_SPREAD = 1e-9


@dataclass(frozen=True, slots=True)
class Draws:
    """A mean, and what resampling makes of it: ``draws`` has shape (resamples,), already scaled."""

    mean: float
    draws: Floats
    seeds: int
    items: int

    def estimate(self) -> Estimate:
        """The percentile interval at 95 %."""
        low, high = np.quantile(self.draws, (0.025, 0.975))
        # The mean is inside by construction; rounding must not push it out.
        return Estimate(self.mean, min(float(low), self.mean), max(float(high), self.mean), self.seeds, self.items)


def student_quantile(degrees: float) -> float:
    """The 97.5 % quantile of Student's t with ``degrees`` >= 1, whole or not.

    With t = sqrt(v) tan(u) the distribution function is the integral of cos(u)^(v-1), done here by the trapezoid rule.
    """
    if degrees > 10_000:
        return Z95
    angles = np.linspace(0, math.pi / 2, _GRID)
    density = np.cos(angles) ** (degrees - 1)
    mass = np.concatenate(([0.0], np.cumsum(density[1:] + density[:-1])))
    return math.sqrt(degrees) * math.tan(float(np.interp(0.95, mass / mass[-1], angles)))


def resample(runs: Sequence[Floats], *, crossed: bool, resamples: int = RESAMPLES, seed: int = 0) -> Draws:
    """Scaled bootstrap draws of the mean over seeds of the runs' item means.

    Args:
        runs: For each seed the items' differences, shape (items,); equal lengths and order when ``crossed``.
        crossed: The runs share their items (see the module).
        resamples: Number of draws.
        seed: The same seed gives the same draws.

    Raises:
        ValueError: no runs, a run without items, or crossed runs of different lengths.
    """
    return resample_jointly([run[None] for run in runs], crossed=crossed, resamples=resamples, seed=seed)[0]


def resample_jointly(
    runs: Sequence[Floats], *, crossed: bool, resamples: int = RESAMPLES, seed: int = 0
) -> list[Draws]:
    """``resample`` of several measures of the same runs: draw r resamples the same seeds and items for all of them.

    Args:
        runs: For each seed an array (measures, items).
        crossed: As for ``resample``, like the rest.
        resamples: Number of draws.
        seed: The same seed gives the same draws.
    """
    if not runs or any(not run.size for run in runs):
        raise ValueError("resampling needs at least one run, and at least one item in each")
    if crossed and len({run.shape for run in runs}) > 1:
        raise ValueError("crossed runs must have the same items")
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(runs), size=(resamples, len(runs)))
    plain = _crossed(np.stack(runs), picks, rng) if crossed else _nested(runs, picks, rng)
    return [_scaled([run[index] for run in runs], draws, crossed) for index, draws in enumerate(plain)]


def _scaled(runs: Sequence[Floats], plain: Floats, crossed: bool) -> Draws:
    """One measure's draws (resamples,), their deviations scaled to the right size."""
    mean = float(np.mean([run.mean() for run in runs]))
    variance, degrees = _crossed_variance(np.stack(runs)) if crossed else _nested_variance(runs)
    spread = float(plain.std())
    scale = student_quantile(degrees) / Z95 * math.sqrt(variance) / spread if spread > _NO_SPREAD else 0.0
    return Draws(mean, mean + scale * (plain - mean), len(runs), sum(run.size for run in runs))


def _nested(runs: Sequence[Floats], picks: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """For each measure and draw the mean over seed slots of the picked run's items, resampled.

    Items of equal values are interchangeable, so their counts are drawn from a multinomial: exact, and much faster.
    """
    slots = np.empty((len(runs[0]), *picks.shape))
    for index, run in enumerate(runs):
        chosen = picks == index
        slots[:, chosen] = _resampled_means(run, int(chosen.sum()), rng)
    return np.asarray(slots.mean(axis=2))


def _crossed(table: Floats, picks: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """As ``_nested``, with one resampled list of items for all seeds; ``table`` is (seeds, measures, items)."""
    seeds, measures, items = table.shape
    means = _resampled_means(table.reshape(seeds * measures, items), len(picks), rng)
    per_seed = means.reshape(seeds, measures, len(picks)).transpose(1, 2, 0)
    return np.asarray(np.take_along_axis(per_seed, picks[None], axis=2).mean(axis=2))


def _resampled_means(table: Floats, times: int, rng: np.random.Generator) -> Floats:
    """Means of the rows of ``table`` (rows, items) over ``times`` resampled lists of items, shape (rows, times)."""
    columns, counts = np.unique(table, axis=1, return_counts=True)
    drawn = rng.multinomial(table.shape[1], counts / table.shape[1], size=times)
    return np.asarray(columns @ drawn.T / table.shape[1])


def _mean_variance(values: Floats) -> float:
    """Variance of the mean of ``values``; 0 for a single one, which says nothing of it."""
    return float(values.var(ddof=1)) / values.size if values.size > 1 else 0.0


def _nested_variance(runs: Sequence[Floats]) -> tuple[float, float]:
    """The variance of the mean, and its degrees of freedom."""
    between = _mean_variance(np.array([run.mean() for run in runs]))
    items = sum(_mean_variance(run) for run in runs) / len(runs) ** 2
    return _combine(between, items, items, len(runs), sum(run.size - 1 for run in runs))


def _crossed_variance(table: Floats) -> tuple[float, float]:
    seeds, items = table.shape
    of_seeds, of_items = table.mean(axis=1), table.mean(axis=0)
    rest = table - of_seeds[:, None] - of_items[None, :] + table.mean()
    freedom = (seeds - 1) * (items - 1)
    residual = float((rest**2).sum()) / freedom / (seeds * items) if freedom else 0.0
    return _combine(_mean_variance(of_seeds), residual, _mean_variance(of_items), seeds, items - 1)


def _combine(between: float, noise: float, items: float, seeds: int, item_freedom: int) -> tuple[float, float]:
    """``max(V_A - V_E, 0) + V_B`` and its Welch-Satterthwaite degrees of freedom."""
    # Equal but for rounding counts as equal: the degrees of freedom jump there.
    if between <= noise or math.isclose(between, noise, rel_tol=1e-9):
        return items, float(max(item_freedom, 1))
    rest = items - noise
    variance = between + rest
    uncertainty = between**2 / (seeds - 1) + rest**2 / max(item_freedom, 1)
    return variance, max(1.0, variance**2 / uncertainty)
