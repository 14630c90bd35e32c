"""Starts a script in this interpreter, which ends when whoever started it dies: ``start_script.py SCRIPT``."""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """From now on the death of the parent process kills this one."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was quicker
        sys.exit("the parent process is gone")


if __name__ == "__main__":
    die_with_parent()
    script = sys.argv[1]
    sys.argv = [script]
    sys.path[0] = os.path.dirname(script)  # noqa: PTH120  as the interpreter does
    runpy.run_path(script, run_name="__main__")
