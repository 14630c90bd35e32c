"""From ``package.module->Class``, or ``path/to/file.py->Class``, to the workflow class."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import zlib
from pathlib import Path
from typing import cast

from astune.class_path import load_class
from astune.errors import ConfigError
from astune.workflow.types import Workflow


def resolve_workflow(path: str) -> type[Workflow]:
    """Returns the workflow class that ``path`` names; modules are looked for in the working directory, too.

    Raises:
        ConfigError: the form is wrong, or module or class do not exist, cannot be imported or are no workflow.
    """
    where, _, name = (part.strip() for part in path.partition("->"))
    if where.endswith(".py"):
        path = f"{_load_file(Path(where), path)}->{name}"
    found = load_class(path, "workflow")
    own = {method for base in found.__mro__ if base is not Workflow for method in vars(base)}
    if not {"execute", "agentscope_execute"} & own:
        raise ConfigError(f"workflow {path!r}: {name} defines neither agentscope_execute nor execute")
    if inspect.isabstract(found):
        raise ConfigError(f"workflow {path!r}: {name} is abstract: name a class that defines all its methods")
    return cast(type[Workflow], found)


def _load_file(file: Path, path: str) -> str:
    """Imports ``file`` under a name of its own and returns that name."""
    if not file.is_file():
        raise ConfigError(f"workflow {path!r}: no file {file} (from {Path.cwd()})")
    name = f"astune_workflow_{file.stem}_{zlib.crc32(str(file.resolve()).encode()):08x}"
    if name in sys.modules:
        return name
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"workflow {path!r}: {file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises while it is imported is a mistake in that file
        del sys.modules[name]
        raise ConfigError(f"workflow {path!r}: importing {file} failed: {type(error).__name__}: {error}") from error
    return name
