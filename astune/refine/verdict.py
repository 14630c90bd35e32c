"""What a critique says of the attempt that it was shown: correct, wrong, or nothing that can be told."""

from __future__ import annotations

import re
from collections.abc import Callable

#: Reads a critique: True where it calls the attempt correct, False where it calls it wrong, None where neither.
VerdictReader = Callable[[str], bool | None]

_THINK_END = "</think>"

_NOT = r"(?:\bnot|n['’]t)"

#: Praise in the form of a denial: to be taken out before faults are looked for.
_NO_FAULT = re.compile(
    rf"(?:\b(?:no|without(?: any)?|free (?:of|from))|{_NOT}(?: (?:find|see|contain|have|make))?(?: any)?) "
    r"(?:\w+ ){0,2}?(?:errors?|mistakes?|flaws?)\b"
    rf"|(?:{_NOT}|\bnothing(?: is)?) (?:incorrect|wrong)\b",
    re.IGNORECASE,
)
_FAULT = re.compile(
    r"\b(?:incorrect(?:ly)?|wrong(?:ly)?|mistaken|errors?|mistakes?|flaw(?:s|ed)?)\b"
    rf"|{_NOT}(?: (?:be|fully|entirely|completely|quite))? (?:correct|right|accurate)\b",
    re.IGNORECASE,
)
_PRAISE = re.compile(
    r"\b(?:is|are|looks?|seems?|fully|entirely|all) (?:\w+ )?(?:correct|right|accurate)\b", re.IGNORECASE
)
_SHORT_PRAISE = re.compile(r"^\W*(?:correct|right)\b", re.IGNORECASE)
_RESERVATION = re.compile(r"\b(?:but|however|except|although|though|unless)\b", re.IGNORECASE)


def feedback_of(critique: str) -> str:
    """The part that is meant for others: what follows the last ``</think>``.

    Empty where thinking was begun and never closed.
    """
    _, closed, after = critique.rpartition(_THINK_END)
    if not closed and "<think>" in critique:
        return ""
    return after.strip()


def read_verdict(critique: str) -> bool | None:
    """The critic's verdict on the attempt, from the words of its feedback.

    A fault that is named decides; praise decides where no fault is named and no reservation ("correct, but ...")
    is made. It reads words, not mathematics: correctness itself is the reward's to say.
    """
    feedback = feedback_of(critique)
    remaining, denied = _NO_FAULT.subn(" ", feedback)
    if _FAULT.search(remaining):
        return False
    praised = denied > 0 or _PRAISE.search(remaining) or _SHORT_PRAISE.search(remaining)
    return True if praised and not _RESERVATION.search(remaining) else None
