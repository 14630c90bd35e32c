"""The child's side of a call: confines itself, runs code as ``__main__``, and ends as an interpreter would."""

from __future__ import annotations

import atexit
import builtins
import io
import linecache
import os
import random
import signal
import sys
import threading
import traceback
from mmap import mmap
from types import ModuleType
from typing import Any, NoReturn

from astune.tools import confine
from astune.tools.frames import Decoder

FILENAME = "<code>"
_CHUNK = 1 << 16


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


def _prepare() -> None:
    """What the code finds when it starts; a spare does this ahead of its request."""
    sys.stdout = _stream(1, "strict")
    sys.stderr = _stream(2, "backslashreplace")
    sys.argv = [FILENAME]
    random.seed(0)  # the same code prints the same numbers, so that two runs of one seed are equal


def _run(code: str) -> int:
    streams = (sys.stdout, sys.stderr)
    status = _execute(code)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for non-daemon threads, as an interpreter does
    atexit._run_exitfuncs()
    for stream in streams:
        if not stream.closed:
            stream.flush()
    return status


def confine_and_run(
    confinement: confine.Confinement,
    request: dict[str, Any] | None,
    farewell: mmap,
    control: int,
    stdout: int,
    stderr: int,
) -> NoReturn:
    """In a fork: confines it, waits for ``request`` on ``control`` if there is none yet, runs its code, ends.

    Fails closed: what goes wrong before the code starts is told on ``control``, and no code runs. Code that
    ends by itself leaves (1, exit status) in ``farewell`` before its streams are closed.
    """
    try:
        _isolate(confinement, control, stdout, stderr)
        _prepare()
        request = request or _receive(control)
        confine.set_limits(confinement, request["limits"])
        os.close(control)
    except BaseException as error:  # no code may run half confined
        os.write(control, f"{type(error).__name__}: {error}".encode())
        os._exit(1)
    status = 1
    try:
        status = _run(request["code"])
        farewell[:2] = bytes([1, status])
        os.closerange(1, 3)
    finally:
        os._exit(status)


def _isolate(confinement: confine.Confinement, control: int, stdout: int, stderr: int) -> None:
    """Pipes for stdio, nothing else open but ``control``, confined."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    os.chdir("/")
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    shared = [fd for fd in (confinement.ruleset, confinement.parent) if fd is not None]
    _close_except(sorted([control, *shared]))
    confine.confine(confinement)
    for fd in shared:
        os.close(fd)


def _close_except(keep: list[int]) -> None:
    low = 3
    for fd in keep:
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, max(low, os.sysconf("SC_OPEN_MAX")))


def _receive(control: int) -> dict[str, Any]:
    decoder = Decoder()
    while data := os.read(control, _CHUNK):
        for request in decoder.feed(data):
            return request
    os._exit(0)  # the warm parent has no use for this child any more
