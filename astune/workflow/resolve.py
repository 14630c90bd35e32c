"""From ``package.module->Class``, or ``path/to/file.py->Class``, to the workflow class."""

from __future__ import annotations

import inspect
from typing import cast

from astune.class_path import load_class
from astune.errors import ConfigError
from astune.workflow.types import Workflow


def resolve_workflow(path: str) -> type[Workflow]:
    """Returns the workflow class that ``path`` names; modules are looked for in the working directory, too.

    Raises:
        ConfigError: the form is wrong, or module or class do not exist, cannot be imported or are no workflow.
    """
    found = load_class(path, "workflow")
    name = found.__name__
    own = {method for base in found.__mro__ if base is not Workflow for method in vars(base)}
    if not {"execute", "agentscope_execute"} & own:
        raise ConfigError(f"workflow {path!r}: {name} defines neither agentscope_execute nor execute")
    if inspect.isabstract(found):
        raise ConfigError(f"workflow {path!r}: {name} is abstract: name a class that defines all its methods")
    return cast(type[Workflow], found)
