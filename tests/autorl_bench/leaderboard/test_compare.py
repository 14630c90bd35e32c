"""Improvements, paired differences, ranks and the normalised score."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autorl_bench.leaderboard import Evaluated, difference, improvement, normalised, ranks
from autorl_bench.types import Evaluation, ItemResult
from tests.autorl_bench.leaderboard.results import solved


def by_seed(*firsts: int) -> dict[int, Evaluated]:
    return {seed: solved(first, draw=f"seed{seed}") for seed, first in enumerate(firsts)}


def test_improvement_is_in_points_over_the_baseline():
    assert improvement(by_seed(50, 60)).mean == pytest.approx(25)


def test_doing_nothing_improves_by_exactly_nothing():
    estimate = improvement(by_seed(30, 30, 30))
    assert (estimate.mean, estimate.low, estimate.high) == (0, 0, 0)


def test_the_order_of_items_does_not_matter():
    forward = by_seed(50, 60)
    backward = {
        seed: Evaluated(one.items[::-1], one.scores[::-1], one.baseline[::-1]) for seed, one in by_seed(40, 55).items()
    }
    assert difference(forward, backward) == difference(forward, by_seed(40, 55))


def test_pairing_cancels_what_is_hard_for_both():
    left, right = by_seed(52, 54, 56), by_seed(48, 50, 52)
    apart = {seed + 10: one for seed, one in right.items()}
    paired, unpaired = difference(left, right), difference(left, apart)
    assert paired.mean == unpaired.mean == pytest.approx(4)
    assert paired.decided == 1
    assert unpaired.decided == 0


def test_the_difference_is_over_common_seeds_only():
    left = {**by_seed(50, 50), 7: solved(100, draw="seed7")}
    assert difference(left, by_seed(45, 45)).mean == pytest.approx(5)


def test_the_normalised_score_puts_base_at_0_and_reference_at_1():
    reference = by_seed(70, 72, 68)
    own = normalised(reference, reference)
    base = normalised(by_seed(30, 30, 30), reference)
    half = normalised(by_seed(50, 51, 49), reference)
    assert (own.mean, own.low, own.high) == pytest.approx((1, 1, 1))
    assert (base.mean, base.low, base.high) == (0, 0, 0)
    assert half.mean == pytest.approx(0.5)
    assert half.low < 0.5 < half.high


@pytest.mark.parametrize("firsts", [(30, 30, 30), (25, 20, 28), (31, 29, 33)], ids=["equal", "worse", "undecided"])
def test_the_normalised_score_is_undefined_when_the_reference_does_not_beat_the_base(firsts):
    assert normalised(by_seed(70, 72, 68), by_seed(*firsts)) is None


def test_agents_that_cannot_be_told_apart_share_a_rank_and_the_next_counts_them():
    agents = {
        "best": by_seed(80, 81, 79),
        "close": by_seed(79, 80, 80),
        "far": by_seed(50, 51, 49),
        "nothing": by_seed(30, 30, 30),
    }
    assert ranks(agents) == {"best": 1, "close": 1, "far": 3, "nothing": 4}


def test_a_group_is_left_by_whoever_differs_from_one_of_its_members():
    # noisy ~ steady and noisy ~ low, but steady beats low: the chain is cut where two of one group would differ.
    agents = {"noisy": by_seed(40, 64, 82), "steady": by_seed(60, 61, 59), "low": by_seed(54, 55, 53)}
    assert difference(agents["noisy"], agents["low"]).decided == 0
    assert ranks(agents) == {"noisy": 1, "steady": 1, "low": 3}


agent_results = st.lists(st.integers(0, 40), min_size=3, max_size=3).map(
    lambda firsts: {s: solved(first, of=40, baseline=10, draw=f"seed{s}") for s, first in enumerate(firsts)}
)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), agent_results, min_size=1, max_size=5))
def test_ranks_follow_means_and_separate_whoever_differs(agents):
    places = ranks(agents, resamples=200)
    means = {name: improvement(runs, resamples=200).mean for name, runs in agents.items()}
    for one in agents:
        for other in agents:
            if means[one] > means[other]:
                assert places[one] <= places[other]
            if difference(agents[one], agents[other], resamples=200).decided > 0:
                assert places[one] < places[other]
    assert min(places.values()) == 1
    assert all(sum(place < rank for place in places.values()) == rank - 1 for rank in places.values())


@settings(max_examples=25, deadline=None)
@given(agent_results, agent_results)
def test_the_difference_changes_sign_with_its_sides(left, right):
    one, other = difference(left, right, resamples=200), difference(right, left, resamples=200)
    assert one.mean == pytest.approx(-other.mean)
    assert one.decided in (-other.decided, 0) or other.decided == 0


def item_result(name: str, correct: bool | None) -> ItemResult:
    return ItemResult(name, correct, "", 1, False)


def test_evaluations_are_paired_by_item_and_the_ungradable_is_not_solved():
    submission = Evaluation((item_result("a", True), item_result("b", None)))
    baseline = Evaluation((item_result("b", True), item_result("a", False)))
    assert Evaluated.of(submission, baseline) == Evaluated(("a", "b"), (1.0, 0.0), (0.0, 1.0))


def test_evaluations_of_different_items_are_refused():
    with pytest.raises(ValueError, match="different items"):
        Evaluated.of(Evaluation((item_result("a", True),)), Evaluation((item_result("b", True),)))


@pytest.mark.parametrize(
    "change", [{"items": ()}, {"scores": (2.0, 0.0)}, {"baseline": (0.0,)}, {"items": ("a", "a")}], ids=str
)
def test_a_malformed_evaluation_is_refused(change):
    good = Evaluated(("a", "b"), (1.0, 0.0), (0.0, 0.0))
    with pytest.raises(ValueError, match="evaluation|score"):
        dataclasses.replace(good, **change)
