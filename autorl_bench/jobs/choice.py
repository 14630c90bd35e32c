"""Where jobs run, by name."""

from __future__ import annotations

import difflib
import importlib
import inspect
from typing import Any, cast

from astune.errors import UserError
from autorl_bench.jobs.types import JobRunner

#: Name and class; what a class needs is imported when it is made.
RUNNERS = {
    "local": ("autorl_bench.jobs.local", "LocalJobRunner"),
    "docker": ("autorl_bench.jobs.docker", "DockerJobRunner"),
    "ray": ("autorl_bench.jobs.ray", "RayJobRunner"),
}


def make_runner(name: str, **options: Any) -> JobRunner:
    """The runner of this name: ``local``, ``docker`` or ``ray``. Whether jobs can run there, its ``probe`` tells.

    Args:
        name: One of :data:`RUNNERS`.
        options: Arguments of its class.

    Raises:
        UserError: no runner has this name, or it has no such option.
    """
    if name not in RUNNERS:
        near = difflib.get_close_matches(name, RUNNERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"there is no job runner {name!r}; known are {', '.join(RUNNERS)}{hint}")
    module, attribute = RUNNERS[name]
    runner = getattr(importlib.import_module(module), attribute)
    known = list(inspect.signature(runner).parameters)
    if unknown := [option for option in options if option not in known]:
        raise UserError(f"the job runner {name!r} has no option {unknown[0]!r}; known are {', '.join(known)}")
    return cast(JobRunner, runner(**options))
