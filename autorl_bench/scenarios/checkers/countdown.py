"""The checker of countdown: reads the expression, looks at its numbers, and calculates exactly."""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

from astune.task_judge.answer_text import committed_answer
from autorl_bench.types import Item

_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "$": " "})
_COMMANDS = ((r"\times", "*"), (r"\cdot", "*"), (r"\div", "/"), (r"\left", ""), (r"\right", ""))
_EXPRESSION = re.compile(r"[0-9+\-*/() ]{1,200}", re.ASCII)


class _Unreadable(ValueError):
    """A text that is no expression of numbers and the four operators."""


class CountdownExpression:
    """Whether a completion gives an expression that has the target's value and uses each given number at most once.

    An item's target reads ``24 from 3, 8, 1``. Allowed are numbers, ``+ - * /`` between them, and parentheses;
    ``= 24`` may follow. Digits are not joined, signs do not stand alone, powers are refused. Exact fractions
    throughout: nothing is ever executed.
    """

    async def grade(self, item: Item, completion: str) -> bool | None:
        """Never None: a text without an expression is a wrong answer."""
        goal, _, given = item.target.partition(" from ")
        try:
            value, used = evaluate(_expression_of(completion, goal))
        except _Unreadable:
            return False
        return value == int(goal) and used <= Counter(int(number) for number in given.split(","))


def _expression_of(completion: str, goal: str) -> str:
    text = committed_answer(completion) or ""
    for command, sign in _COMMANDS:
        text = text.replace(command, sign)
    text = text.translate(_SIGNS).strip().rstrip(".").strip()
    left, equals, right = text.partition("=")
    return left if equals and right.strip() == goal else text


def evaluate(text: str) -> tuple[Fraction, Counter[int]]:
    """Value of an expression, and how often it uses each number.

    Raises:
        _Unreadable: other characters, operators or forms, a division by zero, or more than 200 characters.
    """
    if not _EXPRESSION.fullmatch(text):
        raise _Unreadable(text)
    try:
        tree = ast.parse(text.strip(), mode="eval")
        value = _value(tree.body)
        return value, Counter(int(number) for number in re.findall(r"[0-9]+", text))
    except (SyntaxError, ZeroDivisionError, RecursionError, MemoryError) as error:
        raise _Unreadable(text) from error


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise _Unreadable(ast.dump(node))
