from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astune.report.statistics import mcnemar_p, paired_difference, wilson_interval


# Newcombe (1998), Statistics in Medicine 17, table I, method 3.
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_the_published_table(successes: int, n: int, low: float, high: float):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_rate_and_stays_a_probability(case: tuple[int, int]):
    low, high = wilson_interval(*case)
    assert 0 <= low <= case[0] / case[1] <= high <= 1


def test_wilson_without_data_knows_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_refuses_more_successes_than_trials():
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson_interval(3, 2)


def test_mcnemar_counts_only_what_changed():
    before = [False] * 9 + [True] * 1 + [True] * 50
    after = [True] * 9 + [False] * 1 + [True] * 50
    assert mcnemar_p(before, after) == pytest.approx(2 * (1 + 10) / 2**10)


def test_mcnemar_without_a_change_is_one():
    assert mcnemar_p([True, False], [True, False]) == 1.0


def test_paired_difference_is_the_mean_change_inside_its_interval():
    outcome = paired_difference([False] * 60 + [True] * 40, [True] * 50 + [False] * 10 + [True] * 40)
    assert outcome.difference == 0.5
    assert 0.38 < outcome.ci95[0] < 0.5 < outcome.ci95[1] < 0.62


def test_paired_difference_is_the_same_for_the_same_seed():
    before, after = [True, False] * 30, [True, True, False] * 20
    assert paired_difference(before, after, seed=3) == paired_difference(before, after, seed=3)


def test_paired_difference_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([True, False], [True])
