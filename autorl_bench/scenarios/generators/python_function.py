"""Short Python functions over numbers: keep some, change each, gather. Thousands of them, each with hidden tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

from autorl_bench.scenarios.problem import Problem

_N_TESTS = 12


@dataclass(frozen=True, slots=True)
class _Part:
    """One step: how it is said, how it is written in Python (``{k}`` and ``{x}`` filled in), what it does."""

    words: str
    code: str
    apply: Callable[[Any, int], Any]
    ks: range = range(1)


_SOURCES = (
    _Part("f(xs): of the numbers in xs", "xs", lambda xs, _: xs),
    _Part("f(n): of the numbers from 1 to n", "range(1, n + 1)", lambda n, _: range(1, n + 1)),
)
_FILTERS = (
    _Part("take all", "", lambda x, _: True),
    _Part("keep those above {k}", " if x > {k}", lambda x, k: x > k, range(1, 31)),
    _Part("keep those below {k}", " if x < {k}", lambda x, k: x < k, range(2, 32)),
    _Part("keep the even ones", " if x % 2 == 0", lambda x, _: x % 2 == 0),
    _Part("keep the odd ones", " if x % 2 == 1", lambda x, _: x % 2 == 1),
    _Part("keep multiples of {k}", " if x % {k} == 0", lambda x, k: x % k == 0, range(3, 13)),
)
_CHANGES = (
    _Part("", "x", lambda x, _: x),
    _Part("add {k} to each", "x + {k}", lambda x, k: x + k, range(1, 41)),
    _Part("take {k} from each", "x - {k}", lambda x, k: x - k, range(1, 41)),
    _Part("multiply each by {k}", "x * {k}", lambda x, k: x * k, range(2, 22)),
    _Part("square each", "x * x", lambda x, _: x * x),
)
_GATHERINGS = (
    _Part("return the sum", "sum({x})", lambda xs, _: sum(xs)),
    _Part("return the largest, or 0", "max(({x}), default=0)", lambda xs, _: max(xs, default=0)),
    _Part("return the smallest, or 0", "min(({x}), default=0)", lambda xs, _: min(xs, default=0)),
    _Part("return them as a list", "[{x}]", lambda xs, _: list(xs)),
)


class PythonFunctions:
    """Draws functions ``f(xs)`` of a list of integers, and ``f(n)`` of the numbers from 1 to n."""

    def draw(self, rng: Random, index: int) -> Problem:
        """Draws a function; its key is its reference solution, so that wording makes no second problem."""
        source = rng.choice(_SOURCES)
        (keep, low), (change, by), (gather, _) = (_draw_part(rng, parts) for parts in (_FILTERS, _CHANGES, _GATHERINGS))
        said = [f"Write {source.words}", keep.words.format(k=low), change.words.format(k=by), gather.words]
        each = f"{change.code.format(k=by)} for x in {source.code}{keep.code.format(k=low)}"
        argument = "xs" if source is _SOURCES[0] else "n"
        solution = f"def f({argument}):\n    return {gather.code.format(x=each)}"

        def reference(given: Any) -> Any:
            kept: Iterable[int] = (x for x in source.apply(given, 0) if keep.apply(x, low))
            return gather.apply([change.apply(x, by) for x in kept], 0)

        inputs = _lists(rng, low) if argument == "xs" else _counts(rng, low)
        tests = [[[given], reference(given)] for given in inputs]
        target = json.dumps({"function": "f", "tests": tests})
        return Problem(solution, f"{', '.join(part for part in said if part)}.", target, solution, {"tests": tests})


def _draw_part(rng: Random, parts: tuple[_Part, ...]) -> tuple[_Part, int]:
    """Draws a step and its number, with a weight between that of a step and that of its numbers."""
    part = rng.choices(parts, weights=[len(part.ks) ** 0.8 for part in parts])[0]
    return part, rng.choice(part.ks)


def _lists(rng: Random, k: int) -> list[list[int]]:
    """An empty list, one around the limit ``k``, and random ones."""
    drawn = [[rng.randint(-30, 40) for _ in range(rng.randint(1, 8))] for _ in range(_N_TESTS - 2)]
    return [[], [k - 1, k, k + 1, 2 * k], *drawn]


def _counts(rng: Random, k: int) -> list[int]:
    """0, the numbers around the limit ``k``, and random ones."""
    return [0, *(max(0, k + step) for step in (-1, 0, 1)), *(rng.randint(2, 50) for _ in range(_N_TESTS - 4))]
