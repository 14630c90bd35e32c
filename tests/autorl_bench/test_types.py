import pytest

from autorl_bench.types import Evaluation, Flag, ItemResult, Outcome, Reason, SubmissionResult, Verdict


def results(n_correct: int, n_wrong: int, n_ungradable: int = 0) -> tuple[ItemResult, ...]:
    marks = [True] * n_correct + [False] * n_wrong + [None] * n_ungradable
    return tuple(ItemResult(f"item-{i}", mark, "text", 3, truncated=mark is None) for i, mark in enumerate(marks))


def test_accuracy_of_824_in_1319_is_62_47_percent():
    assert round(Evaluation(results(824, 495)).accuracy, 2) == 62.47


def test_the_interval_holds_the_accuracy_and_is_in_percent():
    low, high = Evaluation(results(824, 495)).interval
    assert 59 < low < 62.47 < high < 66


def test_what_cannot_be_graded_counts_as_not_solved():
    evaluation = Evaluation(results(1, 1, n_ungradable=2))
    assert (evaluation.accuracy, evaluation.n_ungradable, evaluation.n_truncated) == (25.0, 2, 2)


def test_an_evaluation_of_nothing_is_refused():
    with pytest.raises(ValueError, match="without results"):
        Evaluation(())


@pytest.mark.parametrize(
    "outcome, evaluation, reasons",
    [
        (Outcome.SCORED, None, ()),
        (Outcome.INVALID, Evaluation(results(1, 0)), (Reason("no_weights", "There are no weights."),)),
        (Outcome.INFRASTRUCTURE, None, ()),
        (Outcome.SCORED, Evaluation(results(1, 0)), (Reason("no_weights", "There are no weights."),)),
    ],
)
def test_a_score_and_a_refusal_exclude_each_other(outcome, evaluation, reasons):
    with pytest.raises(ValueError, match="goes with"):
        SubmissionResult(outcome, evaluation, reasons)


def test_one_finding_flags_the_run():
    found = Verdict((Flag("identical_to_base", "The weights are the base model's.", {"relative_change": 0.0}),))
    assert Verdict.joined([Verdict(), found]) == found
    assert found.is_flagged and not Verdict().is_flagged
