"""All cheats and all honest agents, by name."""

from __future__ import annotations

import importlib
from functools import cache

from autorl_bench.redteam.types import Cheat

_MODULES = (
    "copies",
    "folders",
    "requests",
    "vault",
    "limits",
    "pages",
    "leaks",
)


@cache
def cheats() -> dict[str, Cheat]:
    """The cheats in the order of the matrix."""
    found: dict[str, Cheat] = {}
    for name in _MODULES:
        for cheat in importlib.import_module(f"autorl_bench.redteam.cheats.{name}").CHEATS:
            if cheat.name in found:
                raise ValueError(f"two cheats are called {cheat.name}")
            found[cheat.name] = cheat
    return found
