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
    """Prints the traceback without the frames of this file, with the user's own lines."""
    linecache.cache[FILENAME] = (len(code), None, code.splitlines(keepends=True), FILENAME)
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != FILENAME:
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace, file=sys.stderr)


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
    sys.stdout = sys.__stdout__ = _stream(1, "strict")
    sys.stderr = sys.__stderr__ = _stream(2, "backslashreplace")
    sys.argv = [FILENAME]
    random.seed(0)  # the same code prints the same numbers, so that two runs of one seed are equal
    status = 1
    try:
        status = _execute(code)
        threading._shutdown()  # type: ignore[attr-defined]  # waits for non-daemon threads, as an interpreter does
        atexit._run_exitfuncs()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                status = status or 1
        os._exit(status)
