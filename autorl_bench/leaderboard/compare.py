"""Improvements and differences between agents, from their runs: what is paired, what is not, and what counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autorl_bench.leaderboard.bootstrap import RESAMPLES, Draws, resample, resample_jointly
from autorl_bench.leaderboard.types import Estimate, Evaluated, Floats

#: An agent's evaluations in one scenario, by seed.
BySeed = Mapping[int, Evaluated]


def improvement(runs: BySeed, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Mean improvement over the baseline in percentage points, paired item by item.

    Raises:
        ValueError: there are no runs.
    """
    return _draw(runs, sorted(runs), resamples, seed).estimate()


def difference(left: BySeed, right: BySeed, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """How much more ``left`` improves the model than ``right``, in percentage points.

    Paired item by item over the common seeds, where both sides answered the same items there; otherwise (no
    common seed, or different items) the difference of two independent means, which is wider.

    Raises:
        ValueError: one side has no runs.
    """
    if seeds := _common(left, right):
        crossed = _share_items([left[s] for s in seeds])
        orders = [left[seeds[0] if crossed else s].items for s in seeds]
        runs = [_gains(left[s], o) - _gains(right[s], o) for s, o in zip(seeds, orders, strict=True)]
        return resample(runs, crossed=crossed, resamples=resamples, seed=seed).estimate()
    one, other = _draw(left, sorted(left), resamples, seed), _draw(right, sorted(right), resamples, seed + 1)
    return _join(one, other, one.mean - other.mean, one.draws - other.draws)


def normalised(agent: BySeed, reference: BySeed, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate | None:
    """The agent's improvement as a share of the reference recipe's: base = 0, reference = 1.

    Undefined (None) unless the reference beats the base: its improvement's whole interval must lie above 0, else
    the ratio divides by what may be nothing. Over common seeds where there are some, with the same resampled seeds
    and items on both sides, so that what moves both cancels. A draw in which the reference gains nothing counts as
    infinite, with the sign of the agent's gain: it can widen the interval, and never narrows it.
    """
    theirs, ours = _draw_both(agent, reference, resamples, seed)
    if ours.estimate().decided <= 0:
        return None
    safe = np.where(ours.draws > 0, ours.draws, 1.0)
    ratios = np.where(ours.draws > 0, theirs.draws / safe, np.copysign(np.inf, theirs.draws))
    return _join(theirs, ours, theirs.mean / ours.mean, ratios)


def _draw_both(agent: BySeed, reference: BySeed, resamples: int, seed: int) -> tuple[Draws, Draws]:
    """Joint draws over the common seeds where these have the same items, independent ones otherwise."""
    seeds = _common(agent, reference)
    if not seeds:
        theirs = _draw(agent, sorted(agent), resamples, seed)
        return theirs, _draw(reference, sorted(reference), resamples, seed + 1)
    crossed = _share_items([agent[s] for s in seeds])
    orders = [agent[seeds[0] if crossed else s].items for s in seeds]
    runs = [np.stack((_gains(agent[s], o), _gains(reference[s], o))) for s, o in zip(seeds, orders, strict=True)]
    theirs, ours = resample_jointly(runs, crossed=crossed, resamples=resamples, seed=seed)
    return theirs, ours


def _common(left: BySeed, right: BySeed) -> list[int]:
    """The seeds that both have, if both answered the same items on each of them; else none."""
    seeds = sorted(set(left) & set(right))
    return seeds if all(set(left[s].items) == set(right[s].items) for s in seeds) else []


def _join(one: Draws, other: Draws, mean: float, draws: Floats) -> Estimate:
    low, high = np.quantile(draws, (0.025, 0.975), method="inverted_cdf")  # never between a number and infinity
    seeds, items = min(one.seeds, other.seeds), min(one.items, other.items)
    return Estimate(mean, min(float(low), mean), max(float(high), mean), seeds, items)


def _draw(runs: BySeed, seeds: Sequence[int], resamples: int, seed: int) -> Draws:
    chosen = [runs[s] for s in seeds]
    if not chosen:
        raise ValueError("there are no runs to estimate from")
    crossed = _share_items(chosen)
    gains = [_gains(run, chosen[0].items if crossed else run.items) for run in chosen]
    return resample(gains, crossed=crossed, resamples=resamples, seed=seed)


def _share_items(runs: Sequence[Evaluated]) -> bool:
    return len(runs) > 1 and all(set(run.items) == set(runs[0].items) for run in runs)


def _gains(run: Evaluated, order: tuple[str, ...]) -> Floats:
    """The run's gains in the order of the given items."""
    if run.items == order:
        return run.gains
    position = {item: index for index, item in enumerate(run.items)}
    return run.gains[[position[item] for item in order]]
