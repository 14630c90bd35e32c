"""From ``package.module->Class`` to the class, with errors that name what is wrong and what is near."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from astune.errors import ConfigError


def load_class(path: str, kind: str) -> type:
    """Imports the class that ``path`` names; modules are looked for in the working directory, too.

    Args:
        path: ``package.module->Class``.
        kind: what it is for, as the messages say it (``"judge"``).

    Raises:
        ConfigError: the form is wrong, or the module or the class does not exist or cannot be imported.
    """
    where, arrow, name = (part.strip() for part in path.partition("->"))
    if not (where and arrow and name):
        raise ConfigError(f"{kind} {path!r}: expected 'package.module->Class'")
    module = _import(where, f"{kind} {path!r}")
    found = getattr(module, name, None)
    if not inspect.isclass(found):
        known = [key for key, value in vars(module).items() if inspect.isclass(value) and not key.startswith("_")]
        raise ConfigError(f"{kind} {path!r}: {where} has no class {name!r}{_suggest(name, known)}")
    return found


def _import(where: str, subject: str) -> ModuleType:
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(where)
    except Exception as error:  # whatever a user's module raises while it is imported is a mistake in that module
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (where == missing or where.startswith(missing + ".")):
            message = f"{subject}: no module {missing!r}{_suggest(where, _neighbours(where))}"
            raise ConfigError(f"{message}; it was looked for in {Path.cwd()} and the installed packages") from error
        raise ConfigError(f"{subject}: importing {where} failed: {type(error).__name__}: {error}") from error


def _neighbours(where: str) -> list[str]:
    """Dotted names of the modules in the nearest package of ``where`` that exists."""
    parent = where.rpartition(".")[0]
    while parent:
        try:
            spec = importlib.util.find_spec(parent)
        except ModuleNotFoundError:
            spec = None
        if spec is not None:
            folders = [Path(folder) for folder in spec.submodule_search_locations or []]
            return [f"{parent}.{file.stem}" for folder in folders for file in folder.glob("[!_]*.py")]
        parent = parent.rpartition(".")[0]
    return [file.stem for file in Path.cwd().glob("*.py")]


def _suggest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
