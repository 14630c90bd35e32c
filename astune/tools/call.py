"""One running call, as the warm parent sees it: a child, its pipes, its limits."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from typing import Any, NoReturn

from astune.tools import child, confine
from astune.tools.types import SandboxStop

_CHUNK = 1 << 16
_MEMORY_ERROR = re.compile(rb"(?:^|\n)[\w.]*MemoryError\b[^\n]*\n?$")


class Call:
    """Forks a child for ``request`` and collects what it writes."""

    def __init__(self, request: dict[str, Any], confinement: confine.Confinement) -> None:
        self.identity: int = request["id"]
        self._limits: dict[str, Any] = request["limits"]
        self._stop = SandboxStop.EXIT
        ends = [os.pipe() for _ in range(3)]  # stdout, stderr, trouble before the code starts
        self._started = time.monotonic()
        self.deadline = self._started + self._limits["seconds"]
        self.pid = os.fork()
        if self.pid == 0:
            _become_child(request, confinement, [write for _, write in ends])
        for read_end, write_end in ends:
            os.close(write_end)
            os.set_blocking(read_end, False)
        self._received: dict[int, bytearray] = {read_end: bytearray() for read_end, _ in ends}

    @property
    def pipes(self) -> list[int]:
        """Read ends of stdout and stderr. Trouble is short, and read only when the child has ended."""
        return list(self._received)[:2]

    def read(self, fd: int) -> bool:
        """Takes what a pipe holds; False at its end. A stream over its limit kills the child."""
        buffer = self._received[fd]
        limit = self._limits["output"]
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        buffer += data[: limit - len(buffer) + 1]
        if len(buffer) > limit:
            self._end(SandboxStop.OUTPUT)
            return False
        return bool(data)

    def time_out(self) -> None:
        """Kills the child for its wall-clock time."""
        self._end(SandboxStop.TIMEOUT)

    def kill(self) -> None:
        """Kills the child on behalf of the client."""
        self._end(SandboxStop.KILLED)

    def _end(self, reason: SandboxStop) -> None:
        if self._stop == SandboxStop.EXIT:
            self._stop = reason
        self.deadline = float("inf")
        os.kill(self.pid, signal.SIGKILL)  # not yet reaped, so the id is still the child's
        self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def result(self, status: int, cpu_seconds: float) -> dict[str, Any]:
        """Closes the pipes and tells how the call ended, in the client's form."""
        seconds = time.monotonic() - self._started
        self._kill_group()  # what the code left behind, below the kernel level
        for fd in self._received:
            self._drain(fd)
            os.close(fd)
        stdout, stderr, trouble = (bytes(buffer) for buffer in self._received.values())
        if trouble:
            return {"id": self.identity, "error": trouble.decode("utf-8", "replace")}
        returncode = os.waitstatus_to_exitcode(status)
        limit = self._limits["output"]
        return {
            "id": self.identity,
            "stdout": stdout[:limit].decode("utf-8", "replace"),
            "stderr": stderr[:limit].decode("utf-8", "replace"),
            "returncode": returncode,
            "stop_reason": self._reason(returncode, stderr, cpu_seconds),
            "seconds": seconds,
        }

    def _drain(self, fd: int) -> None:
        limit = self._limits["output"]
        while len(self._received[fd]) <= limit:
            try:
                data = os.read(fd, _CHUNK)
            except BlockingIOError:
                return
            if not data:
                return
            self._received[fd] += data
        if self._stop == SandboxStop.EXIT:
            self._stop = SandboxStop.OUTPUT

    def _reason(self, returncode: int, stderr: bytes, cpu_seconds: float) -> SandboxStop:
        in_time = self._stop == SandboxStop.TIMEOUT and returncode != -signal.SIGKILL
        if self._stop != SandboxStop.EXIT and not in_time:
            return self._stop
        if returncode in (-signal.SIGXCPU, -signal.SIGKILL) and cpu_seconds >= self._limits["cpu_seconds"]:
            return SandboxStop.TIMEOUT
        if returncode == 1 and _MEMORY_ERROR.search(stderr):
            return SandboxStop.MEMORY
        return SandboxStop.KILLED if returncode < 0 else SandboxStop.EXIT


def _become_child(request: dict[str, Any], confinement: confine.Confinement, ends: list[int]) -> NoReturn:
    """In the fork: pipes for stdio, nothing else open, confined; then the code. Fails closed."""
    stdout, stderr, trouble = ends
    try:
        _reset_signals()
        os.setsid()
        os.chdir("/")
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        keep = sorted(fd for fd in (trouble, confinement.ruleset, confinement.parent) if fd is not None)
        _close_except(keep)
        confine.confine(confinement, request["limits"])
        for fd in keep:
            os.close(fd)
    except BaseException as error:  # no code may run half confined
        os.write(trouble, f"{type(error).__name__}: {error}".encode())
        os._exit(1)
    child.run_and_exit(request["code"])


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _close_except(keep: list[int]) -> None:
    low = 3
    for fd in keep:
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, max(low, os.sysconf("SC_OPEN_MAX")))
