r"""What the tiny model is taught to say: answers, critiques and refinements, with mistakes put in on purpose.

Two ways to answer: by a *glance*, which is mostly wrong, or by a *look*, which is right. The teacher
glances more often than it looks, so that a model of its texts has something to refine, and something to learn from a
reward. The critic looks at the picture again (or merely nods); the refiner does what the critic says.

A model of some 300,000 parameters reads short prompts: the folder ``prompts`` takes the place of the bundled ones.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from astune.refine.prompts import Message, Prompts
from astune.refine.verdict import feedback_of
from tutorial.example_self_refine_vlm.shapes import Kind, Problem

PROMPT_FOLDER = Path(__file__).parent / "prompts"
ANSWER_SYSTEM = "Answer from the picture."

GLANCES = 0.65
GLANCE_IS_WRONG = 0.6
#: A critic that nods calls the answer correct without a look.
NODS = 0.3

_GLANCE, _LOOK, _NOD = "At a glance", "I look closely", "This seems fine"
_AGREES = "The solution is correct and complete."
_AGAIN: dict[Kind, str] = {"count": "Count again", "colour": "Name the colour again", "compare": "Compare again"}


@dataclass(frozen=True, slots=True)
class Lesson:
    """One completion to imitate. An image part in ``messages`` has no picture; ``problem.scene`` draws it."""

    problem: Problem
    messages: list[Message]
    completion: str


@cache
def prompts() -> Prompts:
    """The short prompts of critic and refiner."""
    return Prompts.load(PROMPT_FOLDER)


def ask(problem: Problem) -> list[Message]:
    """The conversation that asks for a first answer; the picture is to be filled in."""
    return [
        {"role": "system", "content": ANSWER_SYSTEM},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": problem.question}]},
    ]


def lesson(problem: Problem, rng: random.Random) -> Lesson:
    """A lesson in one of the four tasks: answer, critique, refine with a critique, refine without."""
    task = rng.choices(("answer", "critique", "refine", "refine alone"), weights=(4, 3, 2, 1))[0]
    asked = ask(problem)
    given, text = first_answer(problem, rng)
    if task == "answer":
        return Lesson(problem, asked, text)
    if task == "critique":
        return Lesson(problem, prompts().critique(asked, text), critique(problem, given, rng))
    if task == "refine":
        feedback = feedback_of(critique(problem, given, rng))  # the refiner is shown no more of it
        objects = feedback != _AGREES
        follows = problem.answer if objects else given
        reason = f"The feedback says {follows}." if objects else "The feedback agrees."
        return Lesson(problem, prompts().refine(asked, text, feedback), formatted(reason, follows))
    return Lesson(
        problem, prompts().refine(asked, text), formatted(f"{_AGAIN[problem.kind]}: {problem.answer}.", problem.answer)
    )


def first_answer(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """A first answer, flawed as often as the constants say: what is in the box, and the whole text."""
    if rng.random() >= GLANCES:
        return problem.answer, formatted(f"{_LOOK}: {problem.answer}.", problem.answer)
    wrong = [choice for choice in problem.choices if choice != problem.answer]
    guess = rng.choice(wrong) if rng.random() < GLANCE_IS_WRONG else problem.answer
    return guess, formatted(f"{_GLANCE}: {guess}.", guess)


def critique(problem: Problem, given: str, rng: random.Random) -> str:
    """What the critic says of ``given``: it looks again, and names what is wrong; or it nods."""
    if rng.random() < NODS:
        return f"<think>{_NOD}.</think>\n{_AGREES}"
    again = f"{_AGAIN[problem.kind]}: {problem.answer}."
    verdict = _AGREES if given == problem.answer else f"The answer {given} is wrong. {again}"
    return f"<think>{again}</think>\n{verdict}"


def formatted(reasoning: str, answer: str) -> str:
    """A completion in the format that the system prompts ask for."""
    return f"<think>{reasoning}</think>\n<answer>\\boxed{{{answer}}}</answer>"


def with_picture(messages: list[Message], picture: Any) -> list[Message]:
    """``messages`` with ``picture`` in their image parts."""
    return [
        message
        if isinstance(message["content"], str)
        else message | {"content": [_fill(part, picture) for part in message["content"]]}
        for message in messages
    ]


def _fill(part: dict[str, Any], picture: Any) -> dict[str, Any]:
    return part | {"image": picture} if part["type"] == "image" else part
