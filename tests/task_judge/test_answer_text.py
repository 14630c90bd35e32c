"""Which part of a text counts as its answer."""

from __future__ import annotations

import pytest

from astune.task_judge.answer_text import MAX_ANSWER, MAX_TEXT, committed_answer, extract_boxed


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"\boxed{18}", "18"),
        (r"first \boxed{17}, then \boxed{18}.", "18"),
        (r"\boxed{{18}}", "{18}"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\fbox{18}", "18"),
        (r"\boxed {18}", "18"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\}}", r"\}"),
        (r"\boxed{17} \boxed{18", "17"),
        (r"} \boxed{18} {", "18"),
        (r"\boxed{1 + \boxed{2}}", r"1 + \boxed{2}"),
        (r"\boxed{}", ""),
        (r"\boxed{18", None),
        ("no box", None),
        (r"\boxedx{18}", None),
    ],
)
def test_the_last_balanced_box_counts(text: str, boxed: str | None) -> None:
    assert extract_boxed(text) == boxed


@pytest.mark.parametrize("text", ["\boxed{18}", "\fbox{18}", r"\\boxed{18}"])
def test_a_box_whose_backslash_json_swallowed_or_doubled_still_counts(text: str) -> None:
    assert extract_boxed(text) == "18"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("9 * 2 = 18\n#### 18", "18"),
        (r"#### 17 \boxed{18}", "18"),
        ("The answer is 17. No, the answer is 18", "18"),
        ("**Answer:** 18", "18"),
        (" 18 ", "18"),
        (r"\boxed{ \boxed{18} }", "18"),
    ],
)
def test_without_a_box_the_last_marker_counts(text: str, answer: str) -> None:
    assert committed_answer(text) == answer


@pytest.mark.parametrize("text", ["", "  ", r"\boxed{}", r"\boxed{ }", r"\boxed{18} \boxed{}", "####", "the answer is"])
def test_an_empty_answer_is_none(text: str) -> None:
    assert committed_answer(text) is None


def test_a_box_that_is_never_closed_is_no_answer() -> None:
    assert committed_answer(r"The answer is \boxed{18") is None


def test_an_answer_past_the_length_limit_is_none() -> None:
    assert committed_answer("\\boxed{" + "1" * (MAX_ANSWER + 1) + "}") is None


def test_a_text_past_the_length_limit_is_not_searched() -> None:
    assert committed_answer("x" * MAX_TEXT + r"\boxed{18}") is None


def test_boxes_nested_without_end_are_no_answer() -> None:
    assert committed_answer("\\boxed{" * 9_000 + "18" + "}" * 9_000) is None


def test_many_open_boxes_are_searched_in_one_pass() -> None:
    assert extract_boxed("\\boxed{" * 14_000) is None
