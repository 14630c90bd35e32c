"""Ends processes that dead `astuner` runs left behind, and nothing else.

Every run marks the processes it starts through one environment variable, which names the run's own
process so that a recycled process id is not mistaken for it. A process is a leftover when it belongs
to this user, carries a mark, and the run that the mark names is gone.
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from astune.errors import UserError

#: Environment variable that marks a run's children: `pid:birth:pid-namespace`.
MARK = "ASTUNE_RUN"


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that was ended, and the process id of the run that had started it."""

    pid: int
    name: str
    owner: int


def own_mark() -> str:
    """The value of ``MARK`` that names this process."""
    return f"{os.getpid()}:{birth(os.getpid())}:{_namespace()}"


def mark_children() -> None:
    """Marks every process that this one starts from now on (those that inherit its environment)."""
    os.environ[MARK] = own_mark()


def end_leftovers(pattern: str, patience: float = 3.0) -> list[Ended]:
    """Ends the leftovers whose name matches: SIGTERM first, then SIGKILL.

    Args:
        pattern: Regular expression, searched in the process's name and in the names of the programme and
            script (or module) that it runs.
        patience: Seconds between the two signals.

    Raises:
        UserError: the pattern is not a regular expression.
    """
    try:
        matches = re.compile(pattern).search
    except re.error as error:
        raise UserError(f"--kill={pattern}: not a regular expression: {error}") from error
    found: dict[psutil.Process, Ended] = {}
    for process in psutil.process_iter():
        try:
            owner = _dead_owner(process)
            if owner is not None and any(map(matches, _names(process))):
                found[process] = Ended(process.pid, process.name(), owner)
                process.terminate()
        except psutil.Error:  # it ended meanwhile, or is not ours to see
            continue
    for process in _wait(list(found), patience):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _wait(list(found), patience)
    return list(found.values())


def _wait(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Waits for the processes to end; returns those that still run."""
    deadline = time.monotonic() + seconds
    while (alive := [process for process in processes if birth(process.pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _dead_owner(process: psutil.Process) -> int | None:
    """The process id of the run that started the process, when that run is gone; None for all others."""
    if process.pid == os.getpid() or process.username() != psutil.Process().username():
        return None
    mark = re.fullmatch(r"(\d+):(\w+):(.*)", process.environ().get(MARK, ""))
    if mark is None or mark[3] != _namespace():
        return None
    owner = int(mark[1])
    return None if birth(owner) == mark[2] else owner


def _names(process: psutil.Process) -> set[str]:
    return {process.name(), *(Path(word).name for word in process.cmdline()[:3])}


def birth(pid: int) -> str | None:
    """When a process started, in a form that clock changes don't touch; None when it has ended."""
    if sys.platform == "linux":
        try:
            state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()  # a name is any bytes
        except (FileNotFoundError, ProcessLookupError):
            return None
        # Fields 20 and 22 of proc(5): threads (those of a process live on without its first one), and the start time
        # in clock ticks since boot.
        return None if state in b"ZX" and int(fields[16]) < 2 else fields[18].decode()
    try:
        return str(int(psutil.Process(pid).create_time()))
    except psutil.NoSuchProcess:
        return None


def _namespace() -> str:
    """The process-id namespace: ids of a container mean nothing outside it."""
    return str(Path("/proc/self/ns/pid").readlink()) if sys.platform == "linux" else ""
