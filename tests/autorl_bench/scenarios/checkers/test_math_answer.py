import pytest

from autorl_bench.scenarios.checkers.math_answer import MathAnswer
from autorl_bench.types import Item

ITEM = Item("small/1", [], "1000")


@pytest.mark.parametrize(
    "completion, correct",
    [
        (r"So it is \boxed{1000}.", True),
        (r"\boxed{1,000}", True),
        ("#### 1000.0", True),
        (r"\boxed{1001}", False),
        (r"\boxed{1000 or 1001}", False),
        ("", False),
        (" \n", False),
        (r"It is \boxed{10", None),
        ("I do not know that.", None),
    ],
)
async def test_the_answer_that_the_text_commits_to_is_compared(completion, correct):
    assert await MathAnswer().grade(ITEM, completion) is correct
