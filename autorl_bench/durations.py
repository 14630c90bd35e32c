"""Times as people write them: 90s, 10m, 12h."""

from __future__ import annotations

import re

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
#: Longest time that a budget may be: a year, in seconds.
LONGEST = 366 * 86400.0


def seconds_of(text: str) -> float:
    """A time such as ``90``, ``90s``, ``10m`` or ``12h`` in seconds.

    Raises:
        ValueError: it is none, it is 0, or it is longer than a year.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None or not 0 < (seconds := float(match[1]) * _UNITS[match[2]]) <= LONGEST:
        raise ValueError(f"{text!r} is no time above 0 and up to a year; write 90s, 10m or 12h")
    return seconds
