"""Column types that SQLite and PostgreSQL hold alike: text with no bytes that a server refuses, JSON, states."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from sqlalchemy import Dialect, Enum, String, Text
from sqlalchemy.types import TypeDecorator

from autorl_bench.store.errors import RecordError

#: Longest text of one field, in characters: an agent writes some of them, and must not fill the disk with one.
MAX_TEXT = 1_000_000


def storable(text: str) -> str:
    """``text`` with what no server stores replaced by U+FFFD: NUL and lone surrogates, which a model may sample.

    Raises:
        RecordError: it is longer than :data:`MAX_TEXT`.
    """
    if len(text) > MAX_TEXT:
        raise RecordError(f"a text of {len(text):,} characters is too long to be recorded (at most {MAX_TEXT:,})")
    return text.replace("\x00", "�").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and ASCII alone: equal values give equal text.

    Raises:
        RecordError: not JSON (a path, a set), not finite, or longer than :data:`MAX_TEXT`.
    """
    try:
        text = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise RecordError(f"cannot be recorded as JSON: {error}") from error
    if len(text) > MAX_TEXT:
        raise RecordError(f"JSON of {len(text):,} characters is too long to be recorded (at most {MAX_TEXT:,})")
    return text


class CleanText(TypeDecorator[str]):
    """Text that went through :func:`storable`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else storable(value)


class Short(TypeDecorator[str]):
    """Text of at most ``length`` characters: SQLite would take more, PostgreSQL would fail."""

    impl = String
    cache_ok = True

    def __init__(self, length: int):
        super().__init__(length)
        self.length = length

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database."""
        if value is not None and len(value) > self.length:
            raise RecordError(
                f"{value[:40]!r}... has {len(value):,} characters; at most {self.length} are recorded here"
            )
        return None if value is None else storable(value)


class Json(TypeDecorator[Any]):
    """A JSON value kept as :func:`canonical_json`, so that both databases compare and return it alike."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """To the database."""
        return canonical_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """From the database."""
        return None if value is None else json.loads(value)


def state_column(kind: type[StrEnum]) -> Enum:
    """A column of the values of ``kind``, as text: a new state needs no change of the database's types."""
    return Enum(
        kind, native_enum=False, length=32, values_callable=lambda members: [member.value for member in members]
    )
