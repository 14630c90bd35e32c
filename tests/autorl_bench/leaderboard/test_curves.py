"""The curve of score against budget, and its area."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorl_bench.leaderboard import curve, mean_curve


def test_the_curve_starts_at_the_baseline_and_keeps_the_best():
    one = curve([(50, 40), (20, 60), (30, 55), (80, 70)], baseline=30, budget=100)
    assert (one.seconds, one.best) == ((0, 20, 80), (30, 60, 70))
    assert [one.at(seconds) for seconds in (0, 19.9, 20, 79, 80, 100)] == [30, 30, 60, 60, 70, 70]


def test_the_area_is_the_mean_lead_over_the_baseline():
    assert curve([(20, 60), (80, 70)], baseline=30, budget=100).area == pytest.approx((60 * 30 + 20 * 40) / 100)


def test_a_score_at_the_start_leads_for_the_whole_budget():
    assert curve([(0, 50)], baseline=30, budget=10).area == pytest.approx(20)


def test_what_came_after_the_budget_does_not_count():
    assert curve([(101, 99)], baseline=30, budget=100).best == (30,)


def test_the_mean_curve_averages_at_every_step():
    mean = mean_curve([curve([(20, 60)], 30, 100), curve([(50, 50)], 30, 100)])
    assert (mean.seconds, mean.best) == ((0, 20, 50), (30, 45, 55))


points = st.lists(st.tuples(st.floats(0, 200), st.floats(0, 100)), max_size=8)


@given(points, st.randoms())
def test_a_curve_rises_and_does_not_depend_on_the_order_of_its_points(progress, random):
    one = curve(progress, baseline=30, budget=100)
    random.shuffle(progress)
    assert one == curve(progress, baseline=30, budget=100)
    assert list(one.best) == sorted(one.best)
    assert -1e-9 <= one.area <= one.best[-1] - 30 + 1e-9


@given(st.lists(points, min_size=1, max_size=4))
def test_the_area_of_the_mean_is_the_mean_of_the_areas(many):
    curves = [curve(progress, baseline=30, budget=100) for progress in many]
    assert mean_curve(curves).area == pytest.approx(sum(one.area for one in curves) / len(curves), abs=1e-9)


@pytest.mark.parametrize("budget", [0, -1, float("nan")])
def test_a_budget_must_be_positive(budget):
    with pytest.raises(ValueError, match="budget"):
        curve([], baseline=30, budget=budget)


def test_a_point_before_the_start_is_refused():
    with pytest.raises(ValueError, match="before the start"):
        curve([(-1, 50)], baseline=30, budget=10)


def test_curves_of_different_budgets_have_no_mean():
    with pytest.raises(ValueError, match="one budget"):
        mean_curve([curve([], 30, 10), curve([], 30, 20)])
