"""The warm interpreter: imports the trainer, then forks once for each line of stdin and says so on stdout.

A line in is a JSON object with ``script``, ``folder``, ``environment`` and ``stdout``; lines out are ``{"pid": N}``
when the fork is there and ``{"status": S}`` when it has ended. It ends with its stdin.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

#: What the trainer imports on its way, the late parts included. None of it starts a thread.
MODULES = (
    "torch",
    "astune.cli",
    "astune.config.load",
    "astune.backbone",
    "astune.backbone.local",
    "astune.models.load",
    "transformers.models.qwen2.modeling_qwen2",
    "tutorial.example_math_agent.math_agent_plain",
    "astune.task_judge.math_answer_as_judge",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
)


_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serves until stdin ends."""
    _die_with_parent()
    sys.path.pop(0)  # this folder, whose modules are nobody's libraries
    for name in MODULES:
        with suppress(ImportError):  # the script will say so itself, if it needs it
            importlib.import_module(name)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(request)
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


def _die_with_parent() -> None:
    """The death of the parent process kills this one."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _become(request: dict[str, Any]) -> NoReturn:
    """Runs the script as an interpreter of its own would."""
    _die_with_parent()
    os.setsid()
    output = os.open(request["stdout"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [request["script"]]
    sys.path.insert(0, os.path.dirname(request["script"]))  # noqa: PTH120  as the interpreter does
    status = 0
    try:
        runpy.run_path(request["script"], run_name="__main__")
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
    except BaseException:  # what an interpreter prints, too, before it ends
        traceback.print_exc()
        status = 1
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
