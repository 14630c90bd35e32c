"""Seeded generation of nano_gsm problems, with train and test disjoint by construction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Literal, get_args

from astune.errors import TaskError
from astune.task_reader.nano_gsm.counting import COUNTING
from astune.task_reader.nano_gsm.family import Family, NanoProblem, draw_problem
from astune.task_reader.nano_gsm.money import MONEY
from astune.task_reader.nano_gsm.quantities import QUANTITIES
from astune.task_reader.types import Task

Split = Literal["train", "test"]

#: Every problem family, by name.
FAMILIES: dict[str, Family] = {family.name: family for family in (*MONEY, *COUNTING, *QUANTITIES)}

#: One question in this many belongs to the test split.
_TEST_SHARE = 5
_MAX_REPEATS = 10_000


def split_of(question: str) -> Split:
    """The split that a question belongs to, whatever the seed: a function of its text alone."""
    return "test" if hashlib.sha256(question.encode()).digest()[0] % _TEST_SHARE == 0 else "train"


def largest_number(problem: NanoProblem) -> int:
    """The largest number of a problem: in its question or among the results of its steps."""
    return max(*problem.values, *map(int, re.findall(r"\d+", problem.question)))


def _problem_id(problem: NanoProblem) -> str:
    return f"nano_gsm/{problem.family}/{hashlib.sha256(problem.question.encode()).hexdigest()[:16]}"


def generate(
    n: int, seed: int, split: Split = "train", families: Sequence[str] | None = None, largest: int | None = None
) -> list[NanoProblem]:
    """Generates ``n`` problems with distinct questions and ids, families in turn.

    The same arguments give the same problems. ``families`` limits the draw to those names,
    ``largest`` to problems without any number above it (easy enough to be solved without a tool).

    Raises:
        TaskError: ``n`` is negative, the split or a family is unknown, or the families hold too few
            distinct problems.
    """
    if n < 0:
        raise TaskError(f"nano_gsm: n is {n}; ask for 0 problems or more")
    if split not in get_args(Split):
        raise TaskError(f"nano_gsm: unknown split {split!r}; use one of {', '.join(get_args(Split))}")
    chosen = _families(families)
    rng = Random(f"nano_gsm:{seed}:{split}")
    problems: dict[str, NanoProblem] = {}
    repeats = 0
    while len(problems) < n:
        problem = draw_problem(chosen[len(problems) % len(chosen)], rng)
        fits = largest is None or largest_number(problem) <= largest
        if fits and split_of(problem.question) == split and problem.question not in problems:
            problems[problem.question] = replace(problem, problem_id=_problem_id(problem))
            repeats = 0
        elif (repeats := repeats + 1) > _MAX_REPEATS:
            raise TaskError(
                f"nano_gsm: family {problem.family!r} has too few distinct problems for n={n}; ask for fewer"
            )
    return list(problems.values())


def _families(names: Sequence[str] | None) -> list[Family]:
    if names is None:
        return list(FAMILIES.values())
    unknown = [name for name in names if name not in FAMILIES]
    if unknown or not names:
        raise TaskError(f"nano_gsm: unknown families {unknown}; known: {', '.join(FAMILIES)}")
    return [FAMILIES[name] for name in names]


def to_task(problem: NanoProblem) -> Task:
    """The problem as a task: the question as the only user message, everything else as metadata."""
    return Task(
        task_id=problem.problem_id,
        main_query=problem.question,
        answer=str(problem.answer),
        init_messages=[{"role": "user", "content": problem.question}],
        metadata={"family": problem.family, "program": problem.program, "solution": problem.solution},
    )


def read_nano_gsm(
    n: int,
    seed: int = 0,
    split: Split = "train",
    families: Sequence[str] | None = None,
    largest: int | None = None,
) -> list[Task]:
    """Generates ``n`` tasks: the ``nano_gsm`` task reader. Arguments and errors as in :func:`generate`."""
    return [to_task(problem) for problem in generate(n, seed, split, families, largest)]
