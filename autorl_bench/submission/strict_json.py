"""JSON of unknown origin: one object, no key twice, no NaN, no nesting or number that takes the parser down."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

_MAX_DEPTH = 32


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in ``data``.

    Two readers may disagree about a key that appears twice; such a file is refused instead of guessed at.

    Raises:
        ValueError: it is not one plain JSON object; the message is one line.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    """Keeps what recurses over the value afterwards (comparing, printing) far from the interpreter's limit."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
