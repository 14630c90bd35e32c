from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorl_bench.scenarios.checkers.countdown import CountdownExpression
from autorl_bench.scenarios.generators.countdown import Countdown
from autorl_bench.types import Item

ITEM = Item("countdown/1", [], "24 from 3, 8, 1, 3")


async def grade(completion: str, item: Item = ITEM) -> bool | None:
    return await CountdownExpression().grade(item, completion)


@pytest.mark.parametrize(
    "completion",
    [
        "3 * 8",
        "(3 * 8) * 1",
        "8*3",
        "8 * 3 = 24",
        r"The numbers work out: \boxed{3 \times 8}",
        r"\boxed{\left(3\right) \cdot 8}",
        "I think so.\n#### 3 × 8",
        "The answer is 8 ÷ (1 / 3).",
    ],
)
async def test_an_expression_with_the_targets_value_is_right(completion):
    assert await grade(completion) is True


@pytest.mark.parametrize(
    "completion, why",
    [
        ("", "nothing"),
        ("24", "the target is none of the numbers"),
        ("3 * 8 + 0", "0 is not given"),
        ("8 + 8 + 8", "8 is given once"),
        ("31 - 8 + 1", "31 is two numbers joined"),
        ("3 + 8", "11 is not 24"),
        ("3 * 8 = 25", "claims something else"),
        ("2 ** 3 * 3", "powers"),
        ("8 // 1 * 3", "floor division"),
        ("8 % 3", "remainder"),
        ("-3 + 8", "a sign that stands alone"),
        ("8 / (3 - 3)", "division by zero"),
        ("3 * 8.0", "a decimal point"),
        ("3 * 8 #", "a comment"),
        ("3(8)", "a call"),
        ("3, 8", "a tuple"),
        ("__import__('os')", "code"),
        ("3 * 8\n\n3 + 1", "two expressions"),
        ("3 * 8 or so", "words"),
        ("(" * 150 + "3", "open brackets"),
        ("(" * 90 + "3 * 8" + ")" * 90 + "+" + "0" * 500, "too long"),
        ("３ * ８", "digits of another script"),
    ],
)
async def test_anything_else_is_wrong(completion, why):
    assert await grade(completion) is False, why


@given(st.text(alphabet="0123456789+-*/() =.e_x", max_size=60))
async def test_no_text_breaks_the_checker(text):
    assert await grade(text) in (True, False)


async def test_every_generated_solution_is_right_and_uses_every_number():
    rng = Random(3)
    for _ in range(200):
        problem = Countdown(min_numbers=2, max_numbers=5).draw(rng, 0)
        assert await grade(problem.solution, Item("countdown/2", [], problem.target)) is True


def test_reasoning_gyms_own_verifier_agrees_with_the_solutions():
    from reasoning_gym.factory import create_dataset

    verifier, rng = create_dataset("countdown", size=1, seed=0), Random(4)
    for _ in range(30):
        problem = Countdown().draw(rng, 0)
        goal, _, given_numbers = problem.target.partition(" from ")
        entry = {"metadata": {"numbers": [int(n) for n in given_numbers.split(",")], "target": int(goal)}}
        assert verifier.score_answer(problem.solution, entry) == 1.0
