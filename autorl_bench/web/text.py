"""How numbers and other people's words are written: on the pages and in the terminal."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from autorl_bench.leaderboard import Estimate
from autorl_bench.store.tokens import RUN_ID

#: Longest text of an agent that a page shows in one place, in characters.
LONGEST = 20_000
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# Controls, and the marks that make text read in another order than it is (Boucher and Anderson, "Trojan Source", 2021).
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
# From the line's beginning on, so that a long line without any is looked through once, not once for each character.
_REWRITTEN = re.compile(r"^[^\n]*\r(?!\n)", re.MULTILINE)
_TOKEN = re.compile(rf"(?<![A-Za-z0-9_.-]){RUN_ID.pattern}:[A-Za-z0-9_-]{{43}}(?![A-Za-z0-9_-])")


def clean(text: str) -> str:
    """Other people's text as it can be shown: no terminal codes, nothing invisible, no run's token."""
    text = _REWRITTEN.sub("", _ESCAPES.sub("", text)).replace("\r\n", "\n")
    return _TOKEN.sub("[token]", _HIDDEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text))


def clip(text: str, longest: int = LONGEST) -> str:
    """The beginning of a text that is too long, with a note of what is left out."""
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text) - longest:,} more characters)"


def percent(value: float | None) -> str:
    """``62.47`` as ``"62.5 %"``: scores are percent here."""
    return "–" if value is None else f"{value:.1f} %"


def signed(value: float | None, digits: int = 1) -> str:
    """A difference with its sign, in typography; what is not finite is ``∞``."""
    if value is None:
        return "–"
    text = "∞" if math.isinf(value) else f"{abs(value):.{digits}f}"
    return ("−" if value < 0 and text.strip("0.") else "+") + text


def ratio(value: float) -> str:
    """A share with two decimals: ``"0.93"``, ``"−0.20"``."""
    return signed(value, 2).removeprefix("+")


def interval(estimate: Estimate | None, digits: int = 1) -> str:
    """``"+8.1 to +16.5"``."""
    return "–" if estimate is None else f"{signed(estimate.low, digits)} to {signed(estimate.high, digits)}"


def size(value: float) -> str:
    """Bytes in the largest unit that leaves a number of at least 1."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit in ("B", "KiB") else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit takes everything")


def duration(seconds: float) -> str:
    """``252.4`` as ``"4 min 12 s"``, ``0.4`` as ``"0.4 s"``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds else "0 s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if minutes:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{rest} s"


def moment(seconds: float) -> str:
    """A time as ``"2027-01-15 08:00:12 UTC"``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def plural(count: int, noun: str) -> str:
    """``"1 run"``, ``"3 runs"``."""
    many = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count:,} {noun if count == 1 else many}"


def flat(value: Mapping[str, Any], most: int = 60) -> list[tuple[str, str]]:
    """A nested mapping as lines ``outer.inner`` and value, at most ``most`` of them, each value short."""
    lines: list[tuple[str, str]] = []
    for name, leaf in _leaves(value):
        if len(lines) == most:
            return [*lines, ("…", "more is not shown")]
        words = leaf if isinstance(leaf, str) else json.dumps(leaf)
        lines.append((clip(name, 120), clip(words, 400)))
    return lines


def _leaves(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """An own stack, because what an agent writes can be nested deeper than functions can."""
    stack = list(value.items())[::-1]
    while stack:
        name, inner = stack.pop()
        if isinstance(inner, Mapping) and inner:
            stack += [(f"{name}.{key}", leaf) for key, leaf in inner.items()][::-1]
        else:
            yield name, inner
