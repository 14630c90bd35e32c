"""What a problem family is, and how it turns random numbers into a problem with its gold program."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from random import Random
from types import CodeType
from typing import Any

#: First names with their pronouns (subject, possessive).
NAMES: tuple[tuple[str, str, str], ...] = (
    ("Janet", "she", "her"), ("Tom", "he", "his"), ("Maria", "she", "her"), ("Ben", "he", "his"),
    ("Lucy", "she", "her"), ("Omar", "he", "his"), ("Nina", "she", "her"), ("Jack", "he", "his"),
    ("Aisha", "she", "her"), ("Leo", "he", "his"), ("Emma", "she", "her"), ("Sam", "he", "his"),
    ("Rosa", "she", "her"), ("Ivan", "he", "his"), ("Mei", "she", "her"), ("Paul", "he", "his"),
    ("Grace", "she", "her"), ("Raj", "he", "his"), ("Anna", "she", "her"), ("Carl", "he", "his"),
)  # fmt: skip

_IDENTIFIER = re.compile(r"[a-z_]+")
_MAX_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the gold program: ``variable = expression``, and the sentence that explains it.

    ``expression`` uses slots of the family and variables of earlier steps, with ``+ - * //`` only;
    ``sentence`` holds ``{math}``, where the worked calculation goes.
    """

    variable: str
    expression: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Family:
    """One shape of word problem: phrasings, plans, number ranges and the steps of its solution.

    ``slots`` maps a number's name to its inclusive range ``(low, high)`` or ``(low, high, stride)``;
    ``derived`` maps further names to expressions over slots; ``words`` maps a name to the words that may
    fill it. A draw whose values are negative, or whose divisions leave a rest, is drawn again.
    """

    name: str
    questions: tuple[str, ...]
    plans: tuple[str, ...]
    slots: Mapping[str, tuple[int, ...]]
    steps: tuple[Step, ...]
    derived: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: An expression over slots that must be positive, for limits that the steps do not imply.
    positive: str = "1"

    def __post_init__(self) -> None:
        names = [*self.slots, *self.derived, *self.words, *(step.variable for step in self.steps)]
        if len(set(names)) != len(names):
            raise ValueError(
                f"family {self.name!r}: a name is used twice among slots, derived, words and steps: {names}"
            )


@dataclass(frozen=True, slots=True)
class NanoProblem:
    """One generated problem with everything that is known about it."""

    problem_id: str
    family: str
    question: str
    #: A sentence or two that break the problem down, without numbers.
    plan: str
    #: Worked solution in GSM8K's form, calculator annotations included, ending in ``#### answer``.
    solution: str
    #: Gold Python code; it prints the answer and nothing else.
    program: str
    answer: int
    #: Value of each step's variable, in order; the last is the answer.
    values: tuple[int, ...]

    def record(self) -> dict[str, Any]:
        """The problem as a GSM8K record, with ``id``, ``family`` and ``program`` beside its two keys."""
        return {
            "question": self.question,
            "answer": self.solution,
            "id": self.problem_id,
            "family": self.family,
            "program": self.program,
        }


@cache
def _compiled(expression: str) -> CodeType:
    return compile(expression, "<family>", "eval")


def _evaluate(expression: str, numbers: Mapping[str, int]) -> int | None:
    """Value of an expression of this package's own families; None where a division leaves a rest."""
    no_builtins: dict[str, Any] = {"__builtins__": {}}
    floored = int(eval(_compiled(expression), no_builtins, dict(numbers)))  # noqa: S307
    if "//" not in expression:
        return floored
    exact_numbers = {name: Fraction(value) for name, value in numbers.items()}
    exact = eval(_compiled(expression.replace("//", "/")), no_builtins, exact_numbers)  # noqa: S307
    return floored if exact == floored else None


def _draw_numbers(family: Family, rng: Random) -> tuple[dict[str, int], tuple[int, ...]]:
    """Draws slots until every derived number and step is a non-negative integer."""
    for _ in range(_MAX_DRAWS):
        numbers = {name: rng.randrange(span[0], span[1] + 1, *span[2:]) for name, span in family.slots.items()}
        for name, expression in (*family.derived.items(), *((s.variable, s.expression) for s in family.steps)):
            value = _evaluate(expression, numbers)
            if value is None or value < 0:
                break
            numbers[name] = value
        else:
            limit = _evaluate(family.positive, numbers)
            if limit is not None and limit > 0:
                return numbers, tuple(numbers[step.variable] for step in family.steps)
    raise ValueError(f"family {family.name!r}: no valid numbers in {_MAX_DRAWS} draws; its ranges contradict its steps")


def _draw_words(family: Family, rng: Random) -> dict[str, str]:
    (name, he, his), (friend, _, _) = rng.sample(NAMES, 2)
    words = {"name": name, "friend": friend, "he": he, "He": he.capitalize(), "his": his, "His": his.capitalize()}
    return words | {key: rng.choice(choices) for key, choices in family.words.items()}


def _substitute(expression: str, numbers: Mapping[str, int], keep: frozenset[str] = frozenset()) -> str:
    return _IDENTIFIER.sub(lambda m: m[0] if m[0] in keep else str(numbers[m[0]]), expression)


def _program(family: Family, numbers: Mapping[str, int]) -> str:
    variables = frozenset(step.variable for step in family.steps)
    lines = [f"{step.variable} = {_substitute(step.expression, numbers, variables)}" for step in family.steps]
    return "\n".join([*lines, f"print({family.steps[-1].variable})"])


def _solution(family: Family, numbers: Mapping[str, int], words: Mapping[str, str]) -> str:
    lines = []
    for step in family.steps:
        worked = _substitute(step.expression, numbers).replace("//", "/")
        result = numbers[step.variable]
        math = f"{worked} = <<{worked.replace(' ', '')}={result}>>{result}"
        lines.append(step.sentence.format(math=math, **words, **numbers))
    return "\n".join([*lines, f"#### {numbers[family.steps[-1].variable]}"])


def draw_problem(family: Family, rng: Random) -> NanoProblem:
    """Draws one problem of ``family``; the caller gives it an id.

    Raises:
        ValueError: the family's number ranges allow no valid problem.
    """
    numbers, values = _draw_numbers(family, rng)
    words = _draw_words(family, rng)
    return NanoProblem(
        problem_id="",
        family=family.name,
        question=rng.choice(family.questions).format(**words, **numbers),
        plan=rng.choice(family.plans).format(**words),
        solution=_solution(family, numbers, words),
        program=_program(family, numbers),
        answer=values[-1],
        values=values,
    )
