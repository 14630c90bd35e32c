"""Runs a piece of code as ``__main__`` in a confined child, and ends the process as an interpreter would."""

from __future__ import annotations

import atexit
import builtins
import io
import linecache
import os
import random
import sys
import threading
import traceback
from types import ModuleType
from typing import NoReturn

FILENAME = "<code>"


def _stream(fd: int, errors: str) -> io.TextIOWrapper:
    # Line by line, so that what was printed before a timeout is not lost.
    raw = io.FileIO(fd, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors=errors, line_buffering=True)


def _report(error: BaseException, code: str) -> None:
    """Prints the traceback with the code's own lines only: paths of a machine tell a model nothing."""
    linecache.cache[FILENAME] = (len(code), None, code.splitlines(keepends=True), FILENAME)
    report = traceback.TracebackException.from_exception(error)
    _keep_own_frames(report)
    report.print(file=sys.stderr)


def _keep_own_frames(report: traceback.TracebackException) -> None:
    own = [frame for frame in report.stack if frame.filename == FILENAME]
    report.stack = traceback.StackSummary.from_list(own)
    inner = [report.__cause__, report.__context__, *(getattr(report, "exceptions", None) or ())]
    for other in inner:
        if other is not None:
            _keep_own_frames(other)


def _execute(code: str) -> int:
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    try:
        exec(compile(code, FILENAME, "exec", dont_inherit=True), main.__dict__)
    except SystemExit as error:
        return _exit_status(error)
    except BaseException as error:  # whatever the code raises is its result
        _report(error, code)
        return 1
    return 0


def _exit_status(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def run_and_exit(code: str) -> NoReturn:
    """Runs ``code``; never returns."""
    status = 1
    try:
        status = _run(code)
    finally:
        os._exit(status)


def _run(code: str) -> int:
    sys.stdout = _stream(1, "strict")
    sys.stderr = _stream(2, "backslashreplace")
    streams = (sys.stdout, sys.stderr)
    sys.argv = [FILENAME]
    random.seed(0)  # the same code prints the same numbers, so that two runs of one seed are equal
    status = _execute(code)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for non-daemon threads, as an interpreter does
    atexit._run_exitfuncs()
    for stream in streams:
        if not stream.closed:
            stream.flush()
    return status
