r"""What the tiny model is taught to say: answers, critiques and refinements, with mistakes put in on purpose.

Two ways to answer: by a *glance*, which is mostly wrong, or by a *look*, cell by cell, which is right. The teacher
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
from tutorial.example_self_refine_vlm.shapes import COLOURS, FORMS, MOST, Problem, Scene, plural

PROMPT_FOLDER = Path(__file__).parent / "prompts"
ANSWER_SYSTEM = "Answer from the picture."

GLANCES = 0.65
GLANCE_IS_WRONG = 0.6
#: A critic that nods calls the answer correct without a look.
NODS = 0.3


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


def drill(problem: Problem, rng: random.Random) -> Lesson:
    """A lesson in which every word is earned: to see and count, or to read."""
    return seeing(problem) if rng.random() < 0.5 else reading(problem, rng)


def seeing(problem: Problem) -> Lesson:
    """The lesson that teaches to see and to count."""
    return _told(problem, "Describe the picture.", inventory(problem.scene))


def reading(problem: Problem, rng: random.Random) -> Lesson:
    """The lesson that teaches to read: an inventory, repeated, that has nothing to do with the picture."""
    cells = list(problem.scene.cells)
    rng.shuffle(cells)
    text = inventory(Scene(tuple(cells)))
    return _told(problem, f"Repeat: {text}", text)


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
        follows = problem.answer if _objects(feedback) else given
        reason = f"The feedback says {problem.answer}." if _objects(feedback) else "The feedback agrees."
        return Lesson(problem, prompts().refine(asked, text, feedback), formatted(reason, follows))
    return Lesson(problem, prompts().refine(asked, text), formatted(f"Look again. {look(problem)}", problem.answer))


def first_answer(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """A first answer, flawed as often as the constants say: what is in the box, and the whole text."""
    if rng.random() >= GLANCES:
        return problem.answer, formatted(look(problem), problem.answer)
    guess = _wrong(problem, rng) if rng.random() < GLANCE_IS_WRONG else problem.answer
    return guess, formatted(f"At a glance: {guess}.", guess)


def critique(problem: Problem, given: str, rng: random.Random) -> str:
    """What the critic says of ``given``: it looks, and names what is wrong; or it nods."""
    agrees = "The solution is correct and complete."
    if rng.random() < NODS:
        return f"<think>This seems fine.</think>\n{agrees}"
    verdict = agrees if given == problem.answer else f"The answer {given} is wrong. {_advice(problem)}"
    return f"<think>Look again. {look(problem)}</think>\n{verdict}"


def look(problem: Problem) -> str:
    """The reasoning of one who looks: what stands where, and what follows."""
    seen, traits = description(problem.scene), problem.traits
    if problem.kind == "count":
        return f"{seen}. {plural(traits[0])}: {problem.answer}."
    if problem.kind == "colour":
        return f"{seen}. The {traits[0]} is {problem.answer}."
    numbers = " ".join(f"{plural(trait)}: {problem.scene.number(trait)}." for trait in traits)
    return f"{seen}. {numbers} More {plural(problem.answer)}."


def description(scene: Scene) -> str:
    """What stands in each cell, row by row."""
    return "; ".join(f"{thing.form} {thing.colour}" if thing else "nothing" for thing in scene.cells)


def inventory(scene: Scene) -> str:
    """What stands in each cell, and how many there are of each colour and form."""
    numbers = " ".join(f"{plural(trait)}: {scene.number(trait)}." for trait in COLOURS + FORMS)
    return f"{description(scene)}. {numbers}"


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


def _told(problem: Problem, task: str, text: str) -> Lesson:
    content = [{"type": "image"}, {"type": "text", "text": task}]
    return Lesson(problem, [{"role": "user", "content": content}], text)


def _objects(feedback: str) -> bool:
    return " is wrong. " in feedback


def _advice(problem: Problem) -> str:
    if problem.kind == "count":
        return f"Count again: there are {problem.answer} {plural(problem.traits[0])}."
    if problem.kind == "colour":
        return f"Name the colour again: the {problem.traits[0]} is {problem.answer}."
    return f"Compare again: there are more {plural(problem.answer)}."


def _wrong(problem: Problem, rng: random.Random) -> str:
    """A mistake that a glance makes: one more or one less, another colour, the other of the two."""
    if problem.kind == "count":
        near = [number for number in (int(problem.answer) - 1, int(problem.answer) + 1) if 1 <= number <= MOST]
        return str(rng.choice(near))
    others = COLOURS if problem.kind == "colour" else problem.traits
    return rng.choice([other for other in others if other != problem.answer])
