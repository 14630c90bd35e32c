"""What holds for every number, found by search."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from astune.task_judge.answer_text import committed_answer
from astune.task_judge.math_answer_as_judge import answers_match
from astune.task_judge.plain_number import normalise, read_number

no_deadline = settings(deadline=None, max_examples=100)  # the first call compiles and imports
integers = st.integers(-(10**12), 10**12)
fractions = st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=10**4)
WRAPPERS = (
    "{}",
    "\\boxed{{{}}}",
    "\\boxed{{ {} }}",
    "{}.",
    "({})",
    "**{}**",
    "{} eggs",
    "\\boxed{{{}\\text{{ cm}}}}",
    "x = {}",
)


def spelled(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"


@no_deadline
@given(integers, st.sampled_from(WRAPPERS))
def test_thousands_commas_and_wrapping_change_nothing(value: int, wrapper: str) -> None:
    assert answers_match(wrapper.format(f"{value:,}"), str(value)) is True


@no_deadline
@given(fractions, fractions)
def test_plain_numbers_match_exactly_when_they_are_equal(left: Fraction, right: Fraction) -> None:
    assert answers_match(spelled(left), spelled(right)) is (left == right)


@no_deadline
@given(integers, integers, st.sampled_from(WRAPPERS), st.sampled_from(WRAPPERS))
def test_plain_matching_is_symmetric(left: int, right: int, one: str, other: str) -> None:
    a, b = one.format(left), other.format(right)
    assert answers_match(a, b) is answers_match(b, a)


@no_deadline
@given(st.decimals(-(10**9), 10**9, places=4, allow_nan=False))
def test_decimals_are_read_exactly(value: object) -> None:
    assert read_number(str(value)) == {Fraction(str(value))}


@no_deadline
@given(
    st.lists(st.integers(0, 999), min_size=2, max_size=6, unique=True),
    st.sampled_from([" ", ", ", " or ", "; ", " = "]),
)
def test_a_list_of_numbers_matches_none_of_them(values: list[int], separator: str) -> None:
    text = separator.join(map(str, values))
    assert all(answers_match(text, str(value)) is not True for value in values)


@no_deadline
@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    answer = committed_answer(text)
    assert answer is None or read_number(normalise(answer)) is None or any(char in "0123456789" for char in answer)
