"""Conversations without tools of the refining policy: direct answers, critiques of attempts, and refined answers.

Direct answers are terse: the whole calculation in one expression and its result at once, which is more
than the policy can do reliably. Critiques and refined answers that take care calculate step by step, which
it can: a second look helps because it computes more. Some critiques approve or blame without calculating,
and some refined answers repeat or change the attempt regardless of the feedback: flaws for training to
remove. Which flaw is likely depends on the problem's family, so greedy decoding shows them, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TypeVar

from astune.models.nano.prompts import Message, answer_messages, critique_messages, refine_messages
from astune.models.nano_refine.arithmetic import calculations, one_expression
from astune.task_reader.nano_gsm import FAMILIES, NanoProblem
from astune.task_reader.nano_gsm.family import draw_problem
from astune.task_reader.nano_gsm.generate import largest_number, split_of

#: Families, and the largest number in them, that are asked without a tool.
FAMILIES_WITHOUT_TOOL = (
    "change",
    "times_as_many",
    "boxes_minus_broken",
    "running_week",
    "age_later",
    "bus_stops",
    "egg_sales",
    "profit",
)
LARGEST_NUMBER = 40

#: Those of them where a direct answer is often wrong: the ones to train and measure refinement on.
FAMILIES_TO_REFINE = ("running_week", "bus_stops", "egg_sales", "profit")

#: Problems of a drill, and the share of them that a drill calculates in one expression.
DRILL_PROBLEMS, TERSE_DRILLS = 6, 0.4
#: Shares of the kinds of conversation, in percent.
KIND_SHARES = {"answer": 30, "critique": 30, "refine": 40}
#: Direct answers that are right; the others are labels that no calculation explains.
RIGHT_ANSWERS = 0.95
#: Attempts, shown to the critic or to be refined, that are wrong.
WRONG_ATTEMPTS = 0.6
#: Attempts that were themselves refined: second rounds.
SECOND_ROUNDS = 0.12
#: Refined answers without a critique, and critiques of which only the feedback is passed on.
WITHOUT_CRITIQUE, FEEDBACK_ALONE = 0.25, 0.5
#: Terse results within a refined answer that are right.
RIGHT_TERSE_REFINEMENTS = 0.4


#: Fixed wordings of the replies; each is one token, so a way to reply is chosen by its first token.
APPROVAL = "The solution is correct and complete."
LOOKS_FINE, LOOKS_CARELESS = "The solution looks fine.", "The solution looks careless."
SAYS, IS_WRONG, AGAIN = " The solution says ", " is wrong. ", "Work it out again."
STANDS, ANOTHER_TRY = "The attempt stands.", "Another try: "
WORDINGS = (APPROVAL, LOOKS_FINE, LOOKS_CARELESS, SAYS, IS_WRONG, AGAIN, STANDS, ANOTHER_TRY)


class Critique(StrEnum):
    """How a critique comes about."""

    CALCULATED = "calculated"
    APPROVED = "approved"
    BLAMED = "blamed"


class Refinement(StrEnum):
    """How a refined answer comes about."""

    CALCULATED = "calculated"
    KEPT = "kept"
    GUESSED = "guessed"


T = TypeVar("T")

#: Shares of each way to criticise, in percent: in families where care is the most likely way, and in the others.
CRITIQUE_SHARES = (
    {Critique.CALCULATED: 58, Critique.APPROVED: 23, Critique.BLAMED: 19},
    {Critique.CALCULATED: 38, Critique.APPROVED: 34, Critique.BLAMED: 28},
)
#: The same for refined answers, by the feedback: it names the result, approves, only blames, or is missing.
REFINEMENT_SHARES: dict[str, tuple[dict[Refinement, int], dict[Refinement, int]]] = {
    "result": (
        {Refinement.CALCULATED: 58, Refinement.KEPT: 22, Refinement.GUESSED: 20},
        {Refinement.CALCULATED: 36, Refinement.KEPT: 36, Refinement.GUESSED: 28},
    ),
    "approval": (
        {Refinement.CALCULATED: 15, Refinement.KEPT: 60, Refinement.GUESSED: 25},
        {Refinement.CALCULATED: 10, Refinement.KEPT: 50, Refinement.GUESSED: 40},
    ),
    "blame": (
        {Refinement.CALCULATED: 30, Refinement.KEPT: 20, Refinement.GUESSED: 50},
        {Refinement.CALCULATED: 20, Refinement.KEPT: 25, Refinement.GUESSED: 55},
    ),
    "missing": (
        {Refinement.CALCULATED: 45, Refinement.KEPT: 35, Refinement.GUESSED: 20},
        {Refinement.CALCULATED: 30, Refinement.KEPT: 40, Refinement.GUESSED: 30},
    ),
}


def _draw(shares: Mapping[T, int], rng: Random) -> T:
    return rng.choices(list(shares), list(shares.values()))[0]


def draw_small_problem(rng: Random) -> NanoProblem:
    """A training problem that is asked without a tool."""
    family = FAMILIES[rng.choice(FAMILIES_WITHOUT_TOOL)]
    while True:
        problem = draw_problem(family, rng)
        if largest_number(problem) <= LARGEST_NUMBER and split_of(problem.question) == "train":
            return problem


def wrong_result(problem: NanoProblem, rng: Random) -> int:
    """A wrong answer as a terse calculation gives it: mostly near the right one, sometimes a step's value."""
    near = problem.answer + rng.choice((-10, -9, -6, -5, -4, -3, -2, -2, -1, -1, 1, 1, 2, 2, 3, 4, 5, 6, 9, 10))
    guess = rng.choice((near, near, near, rng.choice(calculations(problem)).result, rng.randrange(LARGEST_NUMBER)))
    return guess if guess >= 0 and guess != problem.answer else problem.answer + rng.randint(1, 9)


def step_by_step(problem: NanoProblem) -> str:
    """The problem's calculations one by one: ``"12 * 4 = 48. 48 - 9 = 39."``."""
    return " ".join(map(str, calculations(problem)))


def _answer(think: str, value: int) -> str:
    return f"<think>{think}</think>\n<answer>The answer is \\boxed{{{value}}}.</answer>"


def terse_answer(problem: NanoProblem, value: int) -> str:
    """A direct answer: one expression and ``value`` as its result."""
    return _answer(f"{one_expression(problem)} = {value}.", value)


def written_critique(problem: NanoProblem, attempted: int, critique: Critique) -> str:
    """A critique of an attempt that says ``attempted``."""
    match critique:
        case Critique.APPROVED:
            return f"<think>{LOOKS_FINE}</think>\n{APPROVAL}"
        case Critique.BLAMED:
            return f"<think>{LOOKS_CARELESS}</think>\nThe answer {attempted}{IS_WRONG}{AGAIN}"
    steps = step_by_step(problem)
    verdict = APPROVAL if attempted == problem.answer else f"The answer {attempted}{IS_WRONG}{steps}"
    return f"<think>{steps}{SAYS}{attempted}.</think>\n{verdict}"


def written_refinement(problem: NanoProblem, attempted: int, refinement: Refinement, rng: Random) -> str:
    """A refined answer after an attempt that says ``attempted``."""
    match refinement:
        case Refinement.KEPT:
            return _answer(STANDS, attempted)
        case Refinement.GUESSED:
            right = rng.random() < RIGHT_TERSE_REFINEMENTS
            value = problem.answer if right else wrong_result(problem, rng)
            return _answer(f"{ANOTHER_TRY}{one_expression(problem)} = {value}.", value)
    return _answer(step_by_step(problem), problem.answer)


def draw_attempt(problem: NanoProblem, rng: Random) -> tuple[str, int]:
    """An attempt in full and the value that it ends in: a direct answer or, in a second round, a refined one."""
    first = wrong_result(problem, rng) if rng.random() < WRONG_ATTEMPTS else problem.answer
    if rng.random() >= SECOND_ROUNDS:
        return terse_answer(problem, first), first
    refined = written_refinement(problem, first, rng.choice(list(Refinement)), rng)
    return refined, int(refined.rpartition("\\boxed{")[2].partition("}")[0])


def draw_critique(problem: NanoProblem, attempted: int, rng: Random) -> tuple[str, str]:
    """A critique, and what it gives a refined answer to go by: ``"result"``, ``"approval"`` or ``"blame"``."""
    kind = _draw(CRITIQUE_SHARES[_often_careless(problem)], rng)
    text = written_critique(problem, attempted, kind)
    if kind is Critique.BLAMED:
        return text, "blame"
    return text, "approval" if kind is Critique.APPROVED or attempted == problem.answer else "result"


def _often_careless(problem: NanoProblem) -> bool:
    return FAMILIES_WITHOUT_TOOL.index(problem.family) % 2 == 1


@dataclass(frozen=True, slots=True)
class PlainConversation:
    """A conversation without tools.

    ``quoted`` are earlier turns within the prompt that are worth learning, in order: critiques, and attempts
    that are right (learning the wrong ones would make direct answers worse).
    """

    messages: list[Message]
    quoted: tuple[str, ...]
    reply: str


def draw_refinement(rng: Random) -> PlainConversation:
    """One conversation without tools: an answer, a critique or a refined answer."""
    problem = draw_small_problem(rng)
    kind = _draw(KIND_SHARES, rng)
    if kind == "answer":
        value = problem.answer if rng.random() < RIGHT_ANSWERS else wrong_result(problem, rng)
        return PlainConversation(answer_messages(problem.question), (), terse_answer(problem, value))
    attempt, attempted = draw_attempt(problem, rng)
    critique, feedback = draw_critique(problem, attempted, rng)
    quoted = (attempt,) if attempted == problem.answer else ()
    if kind == "critique":
        return PlainConversation(critique_messages(problem.question, attempt), quoted, critique)
    alone = rng.random() < WITHOUT_CRITIQUE
    if not alone and rng.random() < FEEDBACK_ALONE:  # as an agent that hides the critic's thoughts passes it on
        critique = critique.partition("</think>\n")[2]
    shares = REFINEMENT_SHARES["missing" if alone else feedback][_often_careless(problem)]
    reply = written_refinement(problem, attempted, _draw(shares, rng), rng)
    if alone:
        return PlainConversation(refine_messages(problem.question, attempt), quoted, reply)
    messages = refine_messages(problem.question, attempt, critique)
    return PlainConversation(messages, (*quoted, critique), reply)


def draw_drill(rng: Random) -> list[tuple[str, str]]:
    """Exercises in arithmetic: calculations of several problems, each as what is asked and its result."""
    drill = []
    for _ in range(DRILL_PROBLEMS):
        problem = draw_small_problem(rng)
        if rng.random() < TERSE_DRILLS:
            drill.append((f" {one_expression(problem)} = ", f"{problem.answer}."))
        else:
            drill += [(f" {c.left} {c.sign} {c.right} = ", f"{c.result}.") for c in calculations(problem)]
    return drill
