"""Pictures of coloured shapes in a grid, and questions about them: count, colour, compare. Seeded, drawn with Pillow.

No scene is in both splits: which one a scene belongs to follows from a hash of what stands in its cells.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

Kind = Literal["count", "colour", "compare"]
Split = Literal["train", "test"]

KINDS: tuple[Kind, ...] = ("count", "colour", "compare")
COLOURS = ("red", "green", "blue", "yellow")
FORMS = ("circle", "square", "triangle")
#: Cells a side, and pixels a cell: the vision tower sees a cell as one token.
GRID = 3
CELL = 16
SIDE = GRID * CELL
MOST = 5

_INK = {"red": (214, 39, 40), "green": (34, 139, 60), "blue": (31, 88, 214), "yellow": (240, 190, 10)}
_RADIUS = 6
_TEST_SHARE = 5  # one scene in five


@dataclass(frozen=True, slots=True)
class Thing:
    """A shape in a cell."""

    colour: str
    form: str


@dataclass(frozen=True, slots=True)
class Scene:
    """``GRID * GRID`` cells, row by row; None is an empty one."""

    cells: tuple[Thing | None, ...]

    def split(self) -> Split:
        """The one split that scenes with these colours and forms belong to."""
        content = ",".join(f"{thing.colour} {thing.form}" if thing else "" for thing in self.cells)
        return "test" if hashlib.sha256(content.encode()).digest()[0] % _TEST_SHARE == 0 else "train"

    def number(self, colour: str | None = None) -> int:
        """How many things there are, of ``colour`` or at all."""
        return sum(thing is not None and colour in (None, thing.colour) for thing in self.cells)

    def draw(self) -> Image.Image:
        """An RGB picture of ``SIDE`` x ``SIDE`` pixels."""
        picture = Image.new("RGB", (SIDE, SIDE), "white")
        pen = ImageDraw.Draw(picture)
        for cell, thing in enumerate(self.cells):
            if thing is not None:
                _draw_thing(pen, thing, x=cell % GRID * CELL + CELL // 2, y=cell // GRID * CELL + CELL // 2)
        return picture


@dataclass(frozen=True, slots=True)
class Problem:
    """A question about a scene. ``choices`` are what a careless answer would be taken from."""

    kind: Kind
    scene: Scene
    question: str
    answer: str
    choices: tuple[str, ...]


def problems(count: int, split: Split, seed: int, kinds: Sequence[Kind] = KINDS) -> list[Problem]:
    """``count`` problems of ``split``, the kinds in turn. The same arguments give the same problems."""
    rng = random.Random(f"{split} {seed}")
    made: list[Problem] = []
    while len(made) < count:
        problem = _MAKERS[kinds[len(made) % len(kinds)]](rng)
        if problem.scene.split() == split:
            made.append(problem)
    return made


def _count(rng: random.Random) -> Problem:
    number = rng.randint(1, MOST)
    scene = _scene(rng, [_thing(rng, rng.choice(COLOURS)) for _ in range(number)])
    near = tuple(str(wrong) for wrong in (number - 1, number, number + 1) if 1 <= wrong <= MOST)
    return Problem("count", scene, "How many shapes are there?", str(number), near)


def _colour(rng: random.Random) -> Problem:
    colour = rng.choice(COLOURS)
    scene = _scene(rng, [_thing(rng, colour) for _ in range(rng.randint(2, MOST))])
    return Problem("colour", scene, "What colour are the shapes?", colour, COLOURS)


def _compare(rng: random.Random) -> Problem:
    first, second = choices = tuple(rng.sample(COLOURS, 2))
    few, many = sorted(rng.sample(range(1, MOST), 2))
    numbers = (few, many) if rng.random() < 0.5 else (many, few)
    scene = _scene(rng, [_thing(rng, c) for c, n in zip(choices, numbers, strict=True) for _ in range(n)])
    question = f"Are there more {first} or {second} shapes?"
    return Problem("compare", scene, question, choices[numbers[1] > numbers[0]], choices)


_MAKERS: dict[Kind, Callable[[random.Random], Problem]] = {"count": _count, "colour": _colour, "compare": _compare}


def _thing(rng: random.Random, colour: str) -> Thing:
    return Thing(colour, rng.choice(FORMS))


def _scene(rng: random.Random, things: Sequence[Thing]) -> Scene:
    cells: list[Thing | None] = [*things, *[None] * (GRID * GRID - len(things))]
    rng.shuffle(cells)
    return Scene(tuple(cells))


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing, x: int, y: int) -> None:
    r, ink = _RADIUS, _INK[thing.colour]
    if thing.form == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)
    elif thing.form == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=ink)
    else:
        pen.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=ink)
