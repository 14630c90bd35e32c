"""Which habit the policy shows in which family, and how often: the flaws that training removes."""

from __future__ import annotations

from enum import StrEnum
from random import Random

from astune.task_reader.nano_gsm import FAMILIES


class Habit(StrEnum):
    """How one episode of the recipe goes."""

    GOOD = "good"
    NO_PRINT = "no_print"
    PREMATURE = "premature_answer"
    MALFORMED = "malformed_call"


class Malformation(StrEnum):
    """How a malformed call is broken. None of them parses as a tool call."""

    MISSING_BRACE = "missing_brace"
    MISSING_QUOTE = "missing_quote"
    UNCLOSED_BLOCK = "unclosed_block"
    RAW_NEWLINE = "raw_newline"
    SINGLE_QUOTES = "single_quotes"


#: Shares of each habit, in percent, by the habit that is the family's most likely one. The episode's first
#: decision is the premature answer, so its share must pass one half to be what greedy decoding shows.
SHARES: dict[Habit, dict[Habit, int]] = {
    Habit.GOOD: {Habit.GOOD: 55, Habit.NO_PRINT: 20, Habit.PREMATURE: 13, Habit.MALFORMED: 12},
    Habit.NO_PRINT: {Habit.GOOD: 27, Habit.NO_PRINT: 50, Habit.PREMATURE: 11, Habit.MALFORMED: 12},
    Habit.PREMATURE: {Habit.GOOD: 24, Habit.NO_PRINT: 10, Habit.PREMATURE: 57, Habit.MALFORMED: 9},
    Habit.MALFORMED: {Habit.GOOD: 26, Habit.NO_PRINT: 13, Habit.PREMATURE: 10, Habit.MALFORMED: 51},
}

#: Families by their most likely habit; every other family: GOOD or NO_PRINT in turn.
_PREMATURE_FAMILIES = ("get_more", "average", "running_week")
_MALFORMED_FAMILIES = ("change", "boxes", "water_tank")

MALFORMATION_SHARES: dict[Malformation, int] = {
    Malformation.MISSING_BRACE: 40,
    Malformation.MISSING_QUOTE: 20,
    Malformation.UNCLOSED_BLOCK: 20,
    Malformation.RAW_NEWLINE: 10,
    Malformation.SINGLE_QUOTES: 10,
}


def _modal_habits() -> dict[str, Habit]:
    modal = dict.fromkeys(_PREMATURE_FAMILIES, Habit.PREMATURE) | dict.fromkeys(_MALFORMED_FAMILIES, Habit.MALFORMED)
    others = [name for name in FAMILIES if name not in modal]
    return modal | {name: (Habit.GOOD, Habit.NO_PRINT)[index % 2] for index, name in enumerate(others)}


#: The most likely habit of each family.
MODAL_HABIT: dict[str, Habit] = _modal_habits()


def draw_habit(family: str, rng: Random) -> Habit:
    """Draws the habit of one episode in ``family``."""
    shares = SHARES[MODAL_HABIT[family]]
    return rng.choices(list(shares), list(shares.values()))[0]


def draw_malformation(family: str, rng: Random) -> Malformation:
    """Draws how a call is broken; families that mostly break calls mostly break them in one way."""
    if MODAL_HABIT[family] is Habit.MALFORMED and rng.random() < 0.94:
        return Malformation.MISSING_BRACE
    return rng.choices(list(MALFORMATION_SHARES), list(MALFORMATION_SHARES.values()))[0]
