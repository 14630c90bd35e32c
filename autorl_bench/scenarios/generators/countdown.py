"""Countdown: reach a number with given numbers and + - * /.

The game of reasoning-gym's family of that name, which scores our solutions 1. Its generator takes milliseconds of
symbolic algebra a game, and of a hidden split nine games in ten are drawn in vain: this one does it with fractions.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from random import Random

from autorl_bench.scenarios.problem import Problem

#: Operators with how tightly they bind, and how tightly their right side must.
_BINDING = {"+": (1, 1), "-": (1, 2), "*": (2, 2), "/": (2, 3)}
_ATOM = 3


@dataclass(frozen=True, slots=True)
class _Expression:
    value: Fraction
    text: str
    binding: int


class Countdown:
    """Draws games of ``min_numbers`` to ``max_numbers`` numbers up to ``max_value``, targets up to ``max_target``.

    Raises:
        ValueError: ranges that hold no game.
    """

    def __init__(self, min_numbers: int = 3, max_numbers: int = 4, max_value: int = 20, max_target: int = 100) -> None:
        if not 2 <= min_numbers <= max_numbers or max_value < 2 or max_target < 4:
            raise ValueError("give 2 <= min_numbers <= max_numbers, max_value >= 2 and max_target >= 4")
        self._sizes = range(min_numbers, max_numbers + 1)
        self._max_value, self._max_target = max_value, max_target

    def draw(self, rng: Random, index: int) -> Problem:
        """Draws a game whose target is none of its numbers; the same numbers and target are the same problem."""
        while True:
            numbers = [rng.randint(1, self._max_value) for _ in range(rng.choice(self._sizes))]
            solution = _combine(numbers, rng)
            target = solution.value
            if target.denominator == 1 and 1 <= target <= self._max_target and target not in numbers:
                break
        given = ", ".join(map(str, numbers))
        key = f"countdown {sorted(numbers)} {target}"
        return Problem(key, f"Make {target} from {given}.", f"{target} from {given}", solution.text)


def _combine(numbers: list[int], rng: Random) -> _Expression:
    """A random expression that uses every number once; divisions by zero become sums."""
    parts = [_Expression(Fraction(number), str(number), _ATOM) for number in numbers]
    while len(parts) > 1:
        rng.shuffle(parts)
        left, right = parts.pop(), parts.pop()
        parts.append(_apply(rng.choice("+-*/"), left, right))
    return parts[0]


def _apply(sign: str, left: _Expression, right: _Expression) -> _Expression:
    if sign == "/" and right.value == 0:
        sign = "+"
    match sign:
        case "+":
            value = left.value + right.value
        case "-":
            value = left.value - right.value
        case "*":
            value = left.value * right.value
        case _:
            value = left.value / right.value
    binding, right_binding = _BINDING[sign]
    sides = _bracketed(left, binding), _bracketed(right, right_binding)
    return _Expression(value, f"{sides[0]} {sign} {sides[1]}", binding)


def _bracketed(expression: _Expression, needed: int) -> str:
    return expression.text if expression.binding >= needed else f"({expression.text})"
