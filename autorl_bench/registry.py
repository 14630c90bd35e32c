"""Things that have a short id and a path of their own: scenarios, agents."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from astune.errors import ConfigError, UserError

#: Ids stand in folder names, in addresses and on the board.
ID_PATTERN = r"[a-z0-9][a-z0-9_-]{0,62}"

T = TypeVar("T")


class UnknownId(UserError):
    """Nothing of this ``kind`` has this id; ``known`` lists the ids that there are."""

    kind: ClassVar[str]

    def __init__(self, wanted: str, known: Sequence[str]) -> None:
        near = difflib.get_close_matches(wanted, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        super().__init__(f"there is no {self.kind} {wanted!r}; known are {', '.join(known) or 'none'}{hint}")
        self.known = tuple(known)


class Registry(Generic[T]):
    """Paths by id, each read when it is asked for.

    Args:
        load: reads one.
        unknown: is raised for an id that nobody has.
    """

    def __init__(self, load: Callable[[Path], T], unknown: type[UnknownId]) -> None:
        self._load, self._unknown = load, unknown
        self._paths: dict[str, Path] = {}

    def _add(self, name: str, path: Path) -> None:
        """Raises ConfigError: the name is no id, or another path has it."""
        kind = self._unknown.kind
        if not re.fullmatch(ID_PATTERN, name):
            raise ConfigError(f"{path}: {name!r} is no {kind} id; use small letters, digits, '_' and '-'")
        if (other := self._paths.setdefault(name, path)) != path:
            raise ConfigError(f"{path}: the {kind} id {name!r} is taken, by {other}; rename one")

    @property
    def ids(self) -> tuple[str, ...]:
        """Known ids, in alphabetical order."""
        return tuple(sorted(self._paths))

    def get(self, wanted: str) -> T:
        """Reads one.

        Raises:
            UnknownId: there is none of this id.
            ConfigError: its configuration cannot be used; names file and line.
        """
        if wanted not in self._paths:
            raise self._unknown(wanted, self.ids)
        return self._load(self._paths[wanted])
