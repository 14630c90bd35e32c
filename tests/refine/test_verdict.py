"""The critic's verdict, from its words."""

from __future__ import annotations

import pytest

from astune.refine.verdict import feedback_of, read_verdict


@pytest.mark.parametrize(
    "critique",
    [
        "The solution is correct and complete.",
        "<think>6 * 4 = 24. The solution says 24, wrong?</think>\nThe solution is correct and complete.",
        "Correct.",
        "All calculations are correct.",
        "There are no errors in the calculation.",
        "I don't see any mistakes here.",
        "Nothing is wrong with this solution.",
        "The answer looks right.",
    ],
)
def test_praise(critique):
    assert read_verdict(critique) is True


@pytest.mark.parametrize(
    "critique",
    [
        "The answer 23 is wrong. Compute 6 * 4 again and state the result.",
        "The result is incorrect.",
        "The reasoning is correct but the last step has an arithmetic error.",
        "This is not correct.",
        "The final answer isn't right.",
        "<think>The solution is correct.</think>\nThere is a mistake in line 2.",
        "No mistakes in the set-up, but the product is wrong.",
    ],
)
def test_fault(critique):
    assert read_verdict(critique) is False


@pytest.mark.parametrize(
    "critique",
    [
        "",
        "Show more steps.",
        "<think>The solution is correct",
        "The reasoning is correct but...",
        "Check whether every unit is used.",
    ],
)
def test_neither(critique):
    assert read_verdict(critique) is None


def test_thinking_is_no_feedback():
    assert feedback_of("<think>6 * 4 = 24.</think>\nAdd the tens.") == "Add the tens."


def test_feedback_without_thinking_is_all_of_it():
    assert feedback_of(" Add the tens. ") == "Add the tens."
