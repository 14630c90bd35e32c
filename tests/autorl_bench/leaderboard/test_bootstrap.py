"""Intervals over seeds and items: they cover what they promise, and obey what must hold for any numbers."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autorl_bench.leaderboard.bootstrap import resample, resample_jointly, student_quantile

TRUE_GAIN = 15.0
ITEMS = 150


def simulated_runs(rng: np.random.Generator, seeds: int, seed_sd: float, crossed: bool) -> list[np.ndarray]:
    """Gains of runs whose expected gain is TRUE_GAIN points: harder and easier items, better and worse seeds."""

    def draw_items() -> tuple[np.ndarray, np.ndarray]:
        ease = rng.beta(2, 2, size=ITEMS)
        return ease, rng.random(ITEMS) < ease

    shared, runs = draw_items(), []
    for _ in range(seeds):
        ease, before = shared if crossed else draw_items()
        chance = 0.5 + 0.3 * (ease - 0.5) + rng.normal(TRUE_GAIN / 100, seed_sd)
        runs.append(100.0 * ((rng.random(ITEMS) < chance).astype(float) - before))
    return runs


def coverage(make: Callable[[np.random.Generator], list[np.ndarray]], crossed: bool, trials: int = 200) -> float:
    rng = np.random.default_rng(7)
    hits = 0
    for trial in range(trials):
        estimate = resample(make(rng), crossed=crossed, resamples=600, seed=trial).estimate()
        hits += estimate.low <= TRUE_GAIN <= estimate.high
    return hits / trials


@pytest.mark.parametrize("crossed", [False, True], ids=["nested", "crossed"])
@pytest.mark.parametrize("seed_sd", [0.0, 0.03, 0.08])
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_95_percent_interval_covers_about_95_percent(seeds, seed_sd, crossed):
    # 200 trials have a standard error of 1.5 points; the plain bootstrap of three seeds covers 75 to 80 %.
    assert 0.90 <= coverage(lambda rng: simulated_runs(rng, seeds, seed_sd, crossed), crossed) <= 0.985


@pytest.mark.parametrize("crossed", [False, True], ids=["nested", "crossed"])
def test_with_one_seed_the_interval_covers_the_choice_of_items(crossed):
    assert 0.92 <= coverage(lambda rng: simulated_runs(rng, 1, 0.0, crossed), crossed) <= 0.98


def test_three_seeds_that_agree_by_chance_keep_the_noise_of_their_items():
    run = np.array([100.0] * 20 + [0.0] * 80)
    estimate = resample([run, run, run], crossed=False).estimate()
    item_error = run.std(ddof=1) / np.sqrt(300)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.97 * item_error, rel=0.1)


def test_shared_items_are_no_new_evidence():
    run = np.array([100.0] * 20 + [0.0] * 80)
    crossed = resample([run] * 4, crossed=True).estimate()
    nested = resample([run] * 4, crossed=False).estimate()
    assert crossed.high - crossed.low == pytest.approx(2 * (nested.high - nested.low), rel=0.1)


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.7062), (2, 4.30265), (10, 2.22814), (30, 2.04227), (1e6, 1.95996)]
)
def test_student_quantile_is_that_of_the_tables(degrees, expected):
    assert student_quantile(degrees) == pytest.approx(expected, rel=1e-4)


gains = st.sampled_from([-100.0, 0.0, 100.0])
nested_runs = st.lists(st.lists(gains, min_size=1, max_size=12).map(np.array), min_size=1, max_size=5)


def crossed_runs() -> st.SearchStrategy[list[np.ndarray]]:
    def of(size: tuple[int, int]) -> st.SearchStrategy[list[np.ndarray]]:
        row = st.lists(gains, min_size=size[1], max_size=size[1]).map(np.array)
        return st.lists(row, min_size=size[0], max_size=size[0])

    return st.tuples(st.integers(1, 5), st.integers(1, 12)).flatmap(of)


any_design = nested_runs.map(lambda runs: (runs, False)) | crossed_runs().map(lambda runs: (runs, True))


@settings(max_examples=60, deadline=None)
@given(any_design, st.integers(0, 3))
def test_the_interval_holds_the_mean_and_repeats_with_its_seed(design, seed):
    runs, crossed = design
    once, again = (resample(runs, crossed=crossed, resamples=200, seed=seed).estimate() for _ in range(2))
    assert once == again
    assert once.low <= once.mean <= once.high
    assert once.mean == pytest.approx(np.mean([run.mean() for run in runs]))


@settings(max_examples=60, deadline=None)
@given(any_design)
@example(([np.full(3, -100.0), np.array([-100.0, -100.0, 0.0])], True))
def test_a_shift_of_all_items_shifts_the_interval(design):
    runs, crossed = design
    before = resample(runs, crossed=crossed, resamples=200).estimate()
    after = resample([run + 7 for run in runs], crossed=crossed, resamples=200).estimate()
    assert (after.low - before.low, after.high - before.high) == pytest.approx((7, 7))


@settings(max_examples=60, deadline=None)
@given(any_design)
def test_a_measure_and_its_double_are_resampled_alike(design):
    runs, crossed = design
    one, double = resample_jointly([np.stack((run, 2 * run)) for run in runs], crossed=crossed, resamples=200)
    assert double.draws == pytest.approx(2 * one.draws)


@pytest.mark.parametrize(
    ("runs", "crossed"), [([], False), ([np.array([])], False), ([np.zeros(2), np.zeros(3)], True)]
)
def test_runs_that_cannot_be_resampled_are_refused(runs, crossed):
    with pytest.raises(ValueError, match=r"item|run"):
        resample(runs, crossed=crossed)
