"""Plain numbers: which spellings are the same value, and which answers must not win. None of them needs the sandbox."""

from __future__ import annotations

import pytest

from astune.task_judge import symbolic
from astune.task_judge.math_answer_as_judge import answers_match

RIGHT_18 = [
    *("18", "18.", "18.0", "18.000", "018", "+18", " 18 ", "(18)", "{18}", "{{18}}", "1.8e1", "36/2"),
    *("$18", r"\$18", "$18.00", "$18$", "18€", "USD 18", "18 $", "$18 per day", "$18/day", "18 dollars per day."),
    *("18 eggs", "18 a day", "18cm", "18 m", "18 cm^2", "18 m²", "18 km/h", "18-inch", "18°", r"18^\circ", "18 dozen"),
    *("18 times", "18 left over", "18 more than Bob", "18 quarters", "$18 / day", "18th"),
    *("18%", r"18\%", "18 percent"),
    *(r"\(18\)", r"\[18\]", "**18**", "`18`", "x = 18", "#### 18", "≈18", r"\frac{36}{2}", r"1.8\times 10^{1}"),
    *("The answer is 18.", "Final answer: 18 eggs", "She makes $18 every day at the farmers' market."),
    *(r"\boxed{18}", r"\boxed{{18}}", r"\boxed{ 18 }", r"\fbox{18}", r"\boxed{\$18.00}", r"\boxed{\text{18 eggs}}"),
    *(r"\boxed{18\text{ dollars}}", r"\boxed{18\,\text{eggs}}", r"\boxed{18\text{ cm}^2}", r"\boxed{\mathbf{18}}"),
    *(r"\boxed{17} \boxed{18}", r"16 - 3 - 4 = 9, 9 * 2 = 18. \boxed{18}.", "16 - 3 - 4 = 9\n9 * 2 = 18\n#### 18"),
]

NOT_18 = [
    *("17", "-18", "180", "118", "1.8", "18.5", "8", "17/18", "18 thousand and two", "$-18$", "-$18", "minus 18"),
    *("1 2 3 18", "17 or 18", "17, 18", "18, 17", "18; 17", "17 18", "1 17", "1 18", "{17,18}", "[1,100]", "1,8"),
    *("between 17 and 18", "17 = 18", "18 = 17 + 1", "x <= 18", "≤18", "18 > 17", r"\pm 18", r"17 \text{ or } 18"),
    *(
        "not 18",
        "18 or seventeen",
        "seventeen, 18",
        "twice 18",
        "more than 18",
        "times 18",
        "18 and a half",
        "18 point five",
        "18 squared",
        "18²",
        "16 4/2",
        "It is 17. It is 18.",
        "eighteen",
    ),
    *(
        "",
        " ",
        r"\boxed{}",
        r"\boxed{18",
        r"\boxed{18} \boxed{}",
        r"\boxed{18} \boxed{17}",
        "I don't know",
        "nan",
        "inf",
    ),
    *("１８", "①⑧", "十八", "18½", "٧ 18", "__import__('os')", "exec('print(18)')", "print(18)", "18; import os"),
    *("1" * 500, "18" + "0" * 5000, "1" * 200_000, "18 " * 400, "(" * 500 + "18" + ")" * 500),
]


@pytest.fixture(autouse=True)
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a plain number went to the sandbox")

    monkeypatch.setattr(symbolic._grader, "sandbox", refuse)


@pytest.mark.parametrize("answer", RIGHT_18)
def test_every_spelling_of_18_matches(answer: str) -> None:
    assert answers_match(answer, "18") is True


@pytest.mark.parametrize("answer", RIGHT_18)
def test_no_spelling_of_18_matches_another_number(answer: str) -> None:
    assert answers_match(answer, "19") is False


@pytest.mark.parametrize("answer", NOT_18, ids=lambda answer: repr(answer[:30]))
def test_nothing_else_matches_18(answer: str) -> None:
    assert answers_match(answer, "18") is not True


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        *(("1,000", "1000"), ("1000", "1,000"), (r"1{,}000", "1,000"), (r"1\,000", "1000"), (r"1,\!000", "1000")),
        *(("$1,234,567.50", "1234567.5"), ("1\u202f000", "1000")),
        *(("1/2", "0.5"), (r"\frac{1}{2}", ".5"), (r"\frac12", "1/2"), (r"\dfrac{3}{6}", "0.5"), ("2/4", "1/2")),
        *(("1 1/2", "3/2"), (r"1\frac{1}{2}", "1.5"), ("1 and 1/2", "1.5"), (r"2 \tfrac{1}{4}", "2.25")),
        *(("-5", "−5"), ("-$5", "-5"), ("$-5", "-5"), (r"-\frac{1}{2}", "-0.5"), ("-1 1/2", "-1.5"), ("- 5", "-5")),
        *(("1.2e3", "1200"), (r"2.5 \times 10^{3}", "2500"), ("2.5 × 10^3", "2500"), ("5e-1", "1/2")),
        *(("100/3", r"\frac{100}{3}"), ("0", "-0"), ("1.5 hours", "3/2"), ("18 eggs", "18 apples")),
    ],
)
def test_equal_values_match(answer: str, reference: str) -> None:
    assert answers_match(answer, reference) is True


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        *(("33.33", "100/3"), ("0.333333", "1/3"), ("18.0000001", "18"), ("99999999999999999999", "1e20")),
        *(("1,00", "100"), ("1.000", "1000"), ("1/2", "2"), ("-1 1/2", "-0.5"), ("5", "-5")),
    ],
)
def test_close_values_do_not_match(answer: str, reference: str) -> None:
    assert answers_match(answer, reference) is False


@pytest.mark.parametrize(("answer", "matches"), [("25%", True), (r"25\%", True), ("25", True), ("0.25", False)])
def test_a_percent_sign_is_a_unit(answer: str, matches: bool) -> None:
    assert answers_match(answer, "25%") is matches


@pytest.mark.parametrize("reference", ["5", "5000000", "5 million"])
def test_a_scale_word_reads_as_unit_or_as_multiple(reference: str) -> None:
    assert answers_match("5 million", reference) is True


def test_no_number_in_the_answer_cannot_be_graded() -> None:
    assert answers_match("I don't know", "18") is None


def test_an_answer_of_several_values_is_wrong_and_not_ungradable() -> None:
    assert answers_match("It is 17 or it is 18", "18") is False


@pytest.mark.parametrize(("answer", "verdict"), [("paris", True), ("Paris.", True), ("Rome", None)])
def test_words_match_only_the_same_words(answer: str, verdict: bool | None) -> None:
    assert answers_match(answer, "Paris") is verdict


@pytest.mark.parametrize("answer", ["1/0", "0/0 eggs"])
def test_a_division_by_zero_matches_nothing(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astune.task_judge.math_answer_as_judge._cached_match", lambda *_: None)
    assert answers_match(answer, "0") is not True
