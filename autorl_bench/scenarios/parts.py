"""Makes a scenario's generator or checker: a bundled one by its short name, or a class by its path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from astune.class_path import load_class
from astune.errors import ConfigError


def make_part(name: str, kind: str, bundled: Mapping[str, str], arguments: Mapping[str, Any], method: str) -> Any:
    """An instance of the class that ``name`` stands for, made with ``arguments``.

    Args:
        name: a key of ``bundled``, ``package.module->Class``, or ``path/to/file.py->Class``.
        kind: what it is for, as the messages say it (``"checker"``).
        bundled: class paths by short name.
        arguments: keyword arguments of the constructor.
        method: what the class must have.

    Raises:
        ConfigError: no such class, it lacks ``method``, or it refuses the arguments.
    """
    if "->" not in name and name not in bundled:
        raise ConfigError(f"{kind} {name!r} is not bundled ({', '.join(bundled)}); name a class as 'module->Class'")
    found = load_class(bundled.get(name, name), kind)
    if not callable(getattr(found, method, None)):
        raise ConfigError(f"{kind} {name!r}: a {kind} needs a method {method!r}")
    try:
        return found(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{kind} {name!r} refuses its arguments {dict(arguments)}: {error}") from error
