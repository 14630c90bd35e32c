"""The calculations of a nano_gsm problem as the policy writes them: in one expression, or one by one."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from dataclasses import dataclass

from astune.task_reader.nano_gsm import NanoProblem

_SIGNS: dict[type[ast.operator], tuple[str, Callable[[int, int], int]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.FloorDiv: ("/", operator.floordiv),
}


@dataclass(frozen=True, slots=True)
class Calculation:
    """One operation on two numbers."""

    left: int
    sign: str
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right} = {self.result}."


def calculations(problem: NanoProblem) -> list[Calculation]:
    """Every operation of the gold program in its order; the last one gives the answer."""
    numbers: dict[str, int] = {}
    found: list[Calculation] = []
    for name, expression in _assignments(problem):
        numbers[name] = _work_out(expression, numbers, found)
    return found


def one_expression(problem: NanoProblem) -> str:
    """The gold program as one expression in the question's numbers: ``"12 * 4 - 9"``."""
    known: dict[str, ast.expr] = {}
    for name, expression in _assignments(problem):
        known[name] = _Inlined(known).visit(expression)
    return ast.unparse(known[name]).replace("//", "/")


def _assignments(problem: NanoProblem) -> list[tuple[str, ast.expr]]:
    lines = problem.program.split("\n")[:-1]  # the last line prints
    return [(name, ast.parse(code, mode="eval").body) for name, code in (line.split(" = ") for line in lines)]


def _work_out(node: ast.expr, numbers: dict[str, int], found: list[Calculation]) -> int:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name):
            return numbers[name]
        case ast.BinOp(left=left, op=op, right=right):
            sign, function = _SIGNS[type(op)]
            a, b = _work_out(left, numbers, found), _work_out(right, numbers, found)
            found.append(Calculation(a, sign, b, function(a, b)))
            return found[-1].result
    raise ValueError(f"a nano_gsm program computes with + - * // only, not {ast.unparse(node)}")


class _Inlined(ast.NodeTransformer):
    """Puts the expressions of earlier steps in the place of their names."""

    def __init__(self, known: dict[str, ast.expr]) -> None:
        self._known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._known.get(node.id, node)
