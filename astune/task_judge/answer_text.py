r"""Which part of a text is the answer that it commits to.

An agent may write a lot before it answers. What counts is, in this order: the last balanced
``\boxed{}``, what follows the last ``####`` (GSM8K's own form), what follows the last "answer is", or
the whole text where it is short.
"""

from __future__ import annotations

import re

#: Texts longer than this are not searched for an answer, and answers longer than the second are not graded.
MAX_TEXT = 100_000
MAX_ANSWER = 1_000
_MAX_NESTING = 4

# JSON written with one backslash turns ``\boxed`` into backspace + "oxed" and ``\fbox`` into form feed + "box".
_BOX = r"(?:\\{1,2}(?:boxed|fbox)|\x08oxed|\x0cbox)"
_BOX_COMMAND = re.compile(_BOX + r"(?![A-Za-z])")
_BRACE = re.compile(rf"(?P<box>{_BOX}\s{{0,9}}\{{)|\\.|(?P<open>\{{)|(?P<close>\}})", re.DOTALL)
# Bounded repetition, so that no text takes quadratic time.
_LEAD_IN = re.compile(r"\banswer\s{0,9}(?:\*\*)?\s{0,9}(?:is|was|:|=)\s{0,9}:?\s{0,9}(?:\*\*)?", re.IGNORECASE)


def extract_boxed(text: str) -> str | None:
    r"""Returns what stands in the last balanced ``\boxed{}`` or ``\fbox{}``, or None where there is none.

    Of nested boxes the outermost counts. One pass over the text, however many braces it has.
    """
    found: str | None = None
    open_braces: list[int | None] = []  # where the content of each open brace starts, None for one that is no box
    for token in _BRACE.finditer(text):
        if token["box"]:
            open_braces.append(token.end())
        elif token["open"]:
            open_braces.append(None)
        elif token["close"] and open_braces:
            start = open_braces.pop()
            if start is not None:
                found = text[start : token.start()]
    return found


def committed_answer(text: str) -> str | None:
    """Returns the answer that ``text`` commits to, stripped, or None where it has none or too much of it.

    A box that is opened and never closed is no answer: the text was cut, and so may the number be.
    """
    if len(text) > MAX_TEXT:
        return None
    answer = extract_boxed(text)
    for _ in range(_MAX_NESTING):
        answer = answer if answer is None else extract_boxed(answer) or answer
    if answer is None:
        answer = _after_last_marker(text)
    if _BOX_COMMAND.search(answer):
        return None
    answer = answer.strip()
    return answer if 0 < len(answer) <= MAX_ANSWER else None


def _after_last_marker(text: str) -> str:
    if "####" in text:
        return text.rsplit("####", 1)[1]
    lead_ins = list(_LEAD_IN.finditer(text))
    return text[lead_ins[-1].end() :] if lead_ins else text
