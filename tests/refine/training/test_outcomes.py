"""Outcomes of refinement on hand-made rows, and the identities between them."""

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from astune.refine.training.credit import Chain
from astune.refine.training.outcomes import Rate, Transitions, measure
from astune.report.statistics import paired_difference, wilson_interval


def rows(*words: tuple[float | None, ...], verdicts: tuple = ()) -> list[Chain]:
    """Chains from what is correct (1) and incorrect (0) at each attempt, each with the same verdicts."""
    return [Chain(number, word, verdicts) for number, word in enumerate(words)]


#: 2 i→c, 1 i→i, 4 c→c, 1 c→i.
EIGHT = rows((0, 1), (0, 1), (0, 0), (1, 1), (1, 1), (1, 1), (1, 1), (1, 0))


def test_accuracies_and_transitions_by_hand() -> None:
    outcomes = measure(EIGHT)
    assert [accuracy.value for accuracy in outcomes.accuracies] == [5 / 8, 6 / 8]
    assert outcomes.transitions == Transitions(ic=2, ii=1, cc=4, ci=1)
    assert outcomes.oracle_gated == Rate(7, 8)


def test_rates_have_wilsons_intervals() -> None:
    outcomes = measure(EIGHT)
    assert outcomes.transitions.corrected.value == 2 / 3
    assert outcomes.transitions.broken.value == 1 / 5
    assert outcomes.transitions.broken.ci95 == wilson_interval(1, 5)


def test_the_delta_is_the_paired_difference() -> None:
    before, after = [[bool(chain.rewards[turn]) for chain in EIGHT] for turn in (0, 1)]
    assert measure(EIGHT).delta == paired_difference(before, after)


def test_fixed_point_and_advice() -> None:
    outcomes = measure(EIGHT)
    assert outcomes.fixed_point == pytest.approx((2 / 3) / (2 / 3 + 1 / 5))
    assert outcomes.more_rounds_pay is True
    assert outcomes.advice == "More rounds pay: they lead to 76.9%, above the 75.0% reached."


def test_more_rounds_do_not_pay_where_correct_answers_are_ruined() -> None:
    outcomes = measure(rows((0, 0), (0, 1), (1, 0), (1, 0), (1, 1), (1, 1)))
    assert outcomes.more_rounds_pay is False
    assert outcomes.advice == "More rounds do not pay: they lead to 50.0%, not above the 50.0% reached."


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([(1, 1), (0, 0)], "More rounds change nothing seen here: no answer became correct or incorrect."),
        ([(0, 1), (0, 0)], "Whether more rounds pay is not known: no answer was correct before the last one."),
        ([(1, 1)], "Whether more rounds pay is not known: no answer was incorrect before the last one."),
    ],
)
def test_without_a_fixed_point_the_advice_says_why(words, why) -> None:
    outcomes = measure(rows(*words))
    assert (outcomes.fixed_point, outcomes.more_rounds_pay) == (None, None)
    assert outcomes.advice == why


def test_ungradable_rows_are_counted_apart() -> None:
    outcomes = measure([*EIGHT, *rows((None, 1), (1, None), (None,))])
    assert (outcomes.rows, outcomes.ungradable) == (8, 3)
    assert outcomes.ungated == measure(EIGHT).ungated


def test_where_only_wrong_rows_were_refined_the_ungated_accuracy_is_unknown() -> None:
    outcomes = measure(rows((0, 1), (0, 0), (1,), (1,)))
    assert (outcomes.ungated, outcomes.ungated_estimate, outcomes.delta) == (None, None, None)
    assert outcomes.oracle_gated == Rate(3, 4)
    assert outcomes.as_run == Transitions(ic=1, ii=1, cc=2)
    assert outcomes.advice == "Whether more rounds pay is not known: not every answer was refined."


def test_a_mixture_estimates_the_ungated_accuracy() -> None:
    # p = 4/6; of the correct rows two were refined and one of these broken: 4/6 * 1/2 + 2/6 * 1/2.
    outcomes = measure(rows((0, 1), (0, 0), (1, 1), (1, 0), (1,), (1,)))
    assert outcomes.refined == 4
    assert outcomes.ungated_estimate == pytest.approx(0.5)


# --- gates ---


def test_the_verdict_stops_a_row_that_the_critic_calls_correct() -> None:
    chains = [*rows((1, 0), (0, 1), verdicts=(True,)), *rows((1, 0), (0, 1), verdicts=(False,))]
    assert measure(chains).verdict_gated == Rate(2, 4)
    assert measure(chains).ungated == Rate(2, 4)
    assert measure(chains[:1]).verdict_gated == Rate(1, 1)


def test_no_verdict_refines() -> None:
    assert measure(rows((1, 0), verdicts=(None,))).verdict_gated == Rate(0, 1)


def test_a_row_that_its_verdict_stopped_is_known_under_that_gate_only() -> None:
    outcomes = measure([Chain(0, (1.0,), (True,)), Chain(1, (0.0, 1.0), (False,))])
    assert outcomes.verdict_gated == Rate(2, 2)
    assert outcomes.ungated is None


def test_without_critiques_the_verdict_gate_is_unknown() -> None:
    assert measure(EIGHT).verdict_gated is None


def test_a_score_at_the_threshold_stops_a_row() -> None:
    chains = rows((1, 0), (1, 0), (0, 1))
    gated = measure(chains, scores=[[0.5, 0.0], [0.4, 0.0], [0.1, 0.0]], threshold=0.5).score_gated
    assert gated == Rate(2, 3)


def test_scores_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="scores of 1 rows, chains of 8"):
        measure(EIGHT, scores=[[0.5]], threshold=0.5)


# --- several rounds ---

ROUNDS = rows((0, 1, 0), (0, 0, 1), (1, 1, 1), (1, 0, 0))


def test_every_attempt_has_its_accuracy_and_every_round_its_rates() -> None:
    outcomes = measure(ROUNDS)
    assert [accuracy.value for accuracy in outcomes.accuracies] == [0.5, 0.5, 0.5]
    assert outcomes.rounds == (Transitions(1, 1, 1, 1), Transitions(ic=1, ii=1, cc=1, ci=1))
    assert outcomes.transitions == Transitions(ic=1, ii=1, cc=1, ci=1)


def test_the_oracle_stops_each_row_at_its_first_correct_attempt() -> None:
    assert measure(ROUNDS).oracle_gated == Rate(4, 4)


def test_fewer_attempts_can_be_looked_at() -> None:
    assert measure(ROUNDS, attempts=2) == measure(rows((0, 1), (0, 0), (1, 1), (1, 0)))


def test_rows_that_end_early_stand_as_they_are() -> None:
    outcomes = measure(rows((0, 1), (0, 0, 1), (1,)), attempts=3)
    assert outcomes.as_run == Transitions(ic=2, cc=1)
    assert outcomes.oracle_gated == Rate(3, 3)
    assert outcomes.accuracies == (Rate(1, 3), None, None)


# --- as data ---


def test_a_row_is_flat_json_with_all_that_is_reported() -> None:
    row = measure(EIGHT).to_row()
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert row["accuracy_t2"] == 0.75
    assert row["accuracy_oracle_gated"] == 0.875
    assert row["accuracy_verdict_gated"] is None
    assert (row["ic"], row["p_c_given_i"], row["delta"]) == (2, 2 / 3, 0.125)
    assert row["delta_low"] <= row["delta"] <= row["delta_high"]


@pytest.mark.parametrize("chains", [[], rows((None, 1))])
def test_nothing_to_measure_is_unknown_not_zero(chains) -> None:
    row = measure(chains).to_row()
    assert row["rows"] == 0
    assert {row[name] for name in ("accuracy_t1", "accuracy_t2", "delta", "fixed_point")} == {None}


# --- identities ---

pairs = st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([0, 1])), min_size=1, max_size=20)


@settings(max_examples=50, deadline=None)
@given(pairs)
def test_acc2_follows_from_acc1_and_the_two_rates(pairs) -> None:
    outcomes = measure(rows(*pairs), resamples=1)
    assert outcomes.ungated_estimate == pytest.approx(outcomes.ungated.value)


@settings(max_examples=50, deadline=None)
@given(pairs)
def test_the_oracle_never_does_worse_than_either_attempt(pairs) -> None:
    outcomes = measure(rows(*pairs), resamples=1)
    assert outcomes.oracle_gated.successes >= max(accuracy.successes for accuracy in outcomes.accuracies)


@settings(max_examples=50, deadline=None)
@given(pairs)
def test_delta_is_what_was_gained_less_what_was_lost(pairs) -> None:
    outcomes = measure(rows(*pairs), resamples=1)
    gained = outcomes.transitions.ic - outcomes.transitions.ci
    assert outcomes.delta.difference == pytest.approx(gained / outcomes.rows)


@settings(max_examples=50, deadline=None)
@given(pairs, st.floats(0, 1))
def test_more_rounds_converge_to_the_fixed_point(pairs, accuracy) -> None:
    transitions = measure(rows(*pairs), resamples=1).transitions
    assume(transitions.fixed_point is not None)
    a, b = transitions.corrected.value, transitions.broken.value
    assume(a + b < 1.95)  # at 2 the two states swap places for ever
    for _ in range(400):
        accuracy = transitions.step(accuracy)
    assert accuracy == pytest.approx(transitions.fixed_point, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(pairs)
def test_another_round_raises_accuracy_when_the_advice_says_so(pairs) -> None:
    outcomes = measure(rows(*pairs), resamples=1)
    assume(outcomes.more_rounds_pay is not None)
    reached = outcomes.ungated.value
    assert outcomes.more_rounds_pay == (outcomes.rounds[-1].step(reached) > reached + 1e-12)


@settings(max_examples=50, deadline=None)
@given(pairs)
def test_a_verdict_that_is_always_right_is_the_oracle(pairs) -> None:
    told = [Chain(0, pair, (bool(pair[0]),)) for pair in pairs]
    assert measure(told, resamples=1).verdict_gated == measure(told, resamples=1).oracle_gated
