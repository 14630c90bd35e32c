"""All cheats, by name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache

from astune.errors import UserError
from autorl_bench.redteam.types import Cheat

_MODULES = ("copies", "folders", "requests", "vault", "limits", "pages", "leaks", "tools", "replay")


@cache
def cheats() -> dict[str, Cheat]:
    """The cheats in the order of the matrix.

    Raises:
        ValueError: two have the same name.
    """
    found: dict[str, Cheat] = {}
    for name in _MODULES:
        for cheat in importlib.import_module(f"autorl_bench.redteam.cheats.{name}").CHEATS:
            if cheat.name in found:
                raise ValueError(f"two cheats are called {cheat.name}")
            found[cheat.name] = cheat
    return found


def chosen(names: Sequence[str]) -> list[Cheat]:
    """The named cheats, or all.

    Raises:
        UserError: there is none of a name.
    """
    known = cheats()
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"there is no cheat {unknown[0]!r}; `autorl-bench redteam --list` names all {len(known)}")
    return [known[name] for name in names] if names else list(known.values())
