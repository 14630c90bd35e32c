"""Word problems of nano_gsm, families in turn."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from astune.task_reader.nano_gsm import FAMILIES
from astune.task_reader.nano_gsm.family import draw_problem
from autorl_bench.scenarios.problem import Problem


class WordProblems:
    """Draws from the named families of nano_gsm; None takes all.

    Raises:
        ValueError: an unknown family.
    """

    def __init__(self, families: Sequence[str] | None = None) -> None:
        if unknown := set(families or ()) - set(FAMILIES):
            raise ValueError(f"unknown families {sorted(unknown)}; known: {', '.join(FAMILIES)}")
        self._families = [FAMILIES[name] for name in families or FAMILIES]

    def draw(self, rng: Random, index: int) -> Problem:
        """Draws a problem of the family whose turn it is. Its key is its question, by which nano_gsm splits, too."""
        problem = draw_problem(self._families[index % len(self._families)], rng)
        return Problem(problem.question, problem.question, str(problem.answer), problem.solution)
