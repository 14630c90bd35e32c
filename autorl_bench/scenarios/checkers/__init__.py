"""Checkers: who says whether a completion solves a problem."""

from __future__ import annotations

from typing import cast

from autorl_bench.scenarios.parts import make_part
from autorl_bench.scenarios.schema import Scenario
from autorl_bench.types import Checker

BUNDLED_CHECKERS = {
    "math": "autorl_bench.scenarios.checkers.math_answer->MathAnswer",
    "countdown": "autorl_bench.scenarios.checkers.countdown->CountdownExpression",
    "python_function": "autorl_bench.scenarios.checkers.python_function->PythonFunction",
}


def make_checker(scenario: Scenario) -> Checker:
    """The scenario's checker, made with its arguments.

    Raises:
        ConfigError: there is none of this name, or it refuses the arguments.
    """
    part = make_part(scenario.checker, "checker", BUNDLED_CHECKERS, scenario.checker_arguments, "grade")
    return cast(Checker, part)
