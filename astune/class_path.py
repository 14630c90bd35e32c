"""From ``package.module->Class``, or ``path/to/file.py->Class``, to the class; errors name what is wrong and near."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import zlib
from pathlib import Path
from types import ModuleType

from astune.errors import ConfigError


def load_class(path: str, kind: str) -> type:
    """Imports the class that ``path`` names; modules are looked for in the working directory, too.

    Args:
        path: ``package.module->Class``, or ``path/to/file.py->Class``.
        kind: what it is for, as the messages say it (``"judge"``).

    Raises:
        ConfigError: the form is wrong, or the file, module or class does not exist or cannot be imported.
    """
    where, arrow, name = (part.strip() for part in path.partition("->"))
    if not (where and arrow and name):
        raise ConfigError(f"{kind} {path!r}: expected 'package.module->Class'")
    load = _load_file if where.endswith(".py") else _import
    module = load(where, f"{kind} {path!r}")
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


def _load_file(where: str, subject: str) -> ModuleType:
    """Imports a file under a name of its own, once a process."""
    file = Path(where)
    if not file.is_file():
        raise ConfigError(f"{subject}: no file {file} (from {Path.cwd()})")
    name = f"astune_user_{file.stem}_{zlib.crc32(str(file.resolve()).encode()):08x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{subject}: {file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises while it is imported is a mistake in that file
        del sys.modules[name]
        raise ConfigError(f"{subject}: importing {file} failed: {type(error).__name__}: {error}") from error
    return module


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
