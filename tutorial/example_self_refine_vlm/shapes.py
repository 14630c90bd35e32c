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

    def has(self, trait: str) -> bool:
        """Whether ``trait``, a colour or a form, is the thing's own."""
        return trait in (self.colour, self.form)


@dataclass(frozen=True, slots=True)
class Scene:
    """``GRID * GRID`` cells, row by row; None is an empty one."""

    cells: tuple[Thing | None, ...]

    def split(self) -> Split:
        """The one split that scenes with these colours and forms belong to."""
        content = ",".join(f"{thing.colour} {thing.form}" if thing else "" for thing in self.cells)
        return "test" if hashlib.sha256(content.encode()).digest()[0] % _TEST_SHARE == 0 else "train"

    def number(self, trait: str) -> int:
        """How many things of ``trait`` there are."""
        return sum(thing is not None and thing.has(trait) for thing in self.cells)

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
    """A question about a scene. ``traits`` are the colours or forms it asks about, as the words of the question."""

    kind: Kind
    scene: Scene
    question: str
    answer: str
    traits: tuple[str, ...]


def problems(count: int, split: Split, seed: int, kinds: Sequence[Kind] = KINDS) -> list[Problem]:
    """``count`` problems of ``split``, the kinds in turn. The same arguments give the same problems."""
    rng = random.Random(f"{split} {seed}")
    made: list[Problem] = []
    while len(made) < count:
        problem = _MAKERS[kinds[len(made) % len(kinds)]](rng)
        if problem.scene.split() == split:
            made.append(problem)
    return made


def plural(trait: str) -> str:
    """``circle`` as ``circles``, ``red`` as ``red shapes``."""
    return f"{trait}s" if trait in FORMS else f"{trait} shapes"


def _count(rng: random.Random) -> Problem:
    trait = rng.choice(COLOURS + FORMS)
    number = rng.randint(1, MOST)
    things = [_thing(rng, trait) for _ in range(number)]
    things += [_thing(rng, without=(trait,)) for _ in range(rng.randint(0, min(4, GRID * GRID - number)))]
    return Problem("count", _scene(rng, things), f"How many {plural(trait)} are there?", str(number), (trait,))


def _colour(rng: random.Random) -> Problem:
    form = rng.choice(FORMS)
    asked = _thing(rng, form)
    things = [asked] + [_thing(rng, without=(form,)) for _ in range(rng.randint(2, 5))]
    return Problem("colour", _scene(rng, things), f"What colour is the {form}?", asked.colour, (form,))


def _compare(rng: random.Random) -> Problem:
    first, second = traits = tuple(rng.sample(rng.choice((COLOURS, FORMS)), 2))
    few, many = sorted(rng.sample(range(MOST), 2))
    numbers = (few, many) if rng.random() < 0.5 else (many, few)
    things = [_thing(rng, trait, without=traits) for trait, n in zip(traits, numbers, strict=True) for _ in range(n)]
    things += [_thing(rng, without=traits) for _ in range(rng.randint(0, 2))]
    question = f"Are there more {plural(first)} or {plural(second)}?"
    return Problem("compare", _scene(rng, things), question, traits[numbers[1] > numbers[0]], traits)


_MAKERS: dict[Kind, Callable[[random.Random], Problem]] = {"count": _count, "colour": _colour, "compare": _compare}


def _thing(rng: random.Random, trait: str | None = None, without: Sequence[str] = ()) -> Thing:
    """A random thing, of ``trait`` where one is given, else (and in its other property) without the named ones."""
    colours = [trait] if trait in COLOURS else [colour for colour in COLOURS if colour not in without]
    forms = [trait] if trait in FORMS else [form for form in FORMS if form not in without]
    return Thing(rng.choice(colours), rng.choice(forms))


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
