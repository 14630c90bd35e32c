"""One call, as the warm parent sees it: a child, its pipes, its limits."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import signal
import socket
import time
from math import inf
from typing import Any

from astune.tools import child
from astune.tools.confine import Confinement
from astune.tools.frames import encode
from astune.tools.types import SandboxStop

_CHUNK = 1 << 16
_MEMORY_ERROR = re.compile(rb"(?:^|\n)[\w.]*MemoryError\b[^\n]*\n?$")


class Call:
    """Forks a child and collects what it writes.

    The child serves one request: ``request``, or for a spare (None) the one that it is handed later.
    """

    def __init__(self, confinement: Confinement, request: dict[str, Any] | None = None) -> None:
        self._stop = SandboxStop.EXIT
        self._request = _without_code(request)
        self._farewell = mmap.mmap(-1, 2)  # shared with this child alone, which leaves its exit status here
        self._control, theirs = socket.socketpair()  # in: a spare's request; out: trouble before the code starts
        ends = [os.pipe() for _ in range(2)]
        self._received: dict[int, bytearray] = {read_end: bytearray() for read_end, _ in ends}
        self._open = set(self.pipes)
        self._start_clock()
        try:
            self.pid = os.fork()
        except OSError:
            self.close()
            raise
        else:
            if self.pid == 0:
                child.confine_and_run(confinement, request, self._farewell, theirs.detach(), *(end for _, end in ends))
        finally:
            theirs.close()
            for _, write_end in ends:
                os.close(write_end)
        if hasattr(mmap, "MADV_DONTFORK"):
            self._farewell.madvise(mmap.MADV_DONTFORK)
        self._control.setblocking(False)
        for read_end in self.pipes:
            os.set_blocking(read_end, False)

    def _start_clock(self) -> None:
        self._started = time.monotonic()
        self.deadline = self._started + self._request["limits"]["seconds"] if self._request else inf

    def hand_over(self, request: dict[str, Any]) -> bool:
        """Gives a spare its request. False, and the child is killed, when it cannot take that at once."""
        frame = encode(request)
        try:
            taken = self._control.send(frame) == len(frame)
        except OSError:  # the child died, or the socket is full
            taken = False
        if taken:
            self._request = _without_code(request)
            self._start_clock()
        else:
            self.kill()
        return taken

    @property
    def identity(self) -> int | None:
        """The request's number; None for a spare, and after the answer."""
        return self._request["id"] if self._request else None

    @property
    def pipes(self) -> list[int]:
        """Read ends of stdout and stderr."""
        return list(self._received)

    def read(self, fd: int) -> bool:
        """Takes what a pipe holds; False at its end. A stream over its limit kills the child."""
        buffer = self._received[fd]
        limit = self._output_limit
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        buffer += data[: limit - len(buffer) + 1]
        if len(buffer) > limit:
            self._end(SandboxStop.OUTPUT)
            return False
        if not data:
            self._open.discard(fd)
        return bool(data)

    @property
    def _output_limit(self) -> int:
        return self._request["limits"]["output"] if self._request else 0

    def time_out(self) -> None:
        """Kills the child for its wall-clock time."""
        self._end(SandboxStop.TIMEOUT)

    def kill(self) -> None:
        """Kills the child on behalf of the client."""
        self._end(SandboxStop.KILLED)

    def _end(self, reason: SandboxStop) -> None:
        if self._stop == SandboxStop.EXIT:
            self._stop = reason
        self.deadline = inf
        self._kill()

    def _kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)  # not yet reaped, so the id is still the child's
        self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Closes the pipes. The child must have ended."""
        self._farewell.close()
        self._control.close()
        for fd in self._received:
            os.close(fd)

    def early_result(self) -> dict[str, Any] | None:
        """The result of a child that left its exit status and closed its streams; None for any other.

        Such a child is killed and not waited for, since the kernel needs a millisecond to take its memory
        down. Code that forges this end chooses its own exit status, as it may anyway, and dies of it.
        """
        said_farewell, returncode = self._farewell[:2]
        if self._open or not said_farewell or self._stop != SandboxStop.EXIT:
            return None
        self._kill()
        return self._answer(returncode, 0.0)

    def result(self, status: int, cpu_seconds: float) -> dict[str, Any] | None:
        """How the call of an ended child went, in the client's form; None when no answer is owed."""
        self._kill_group()  # what the code left behind, below the kernel level
        if self._request is None:
            return None
        for fd in self._received:
            self._drain(fd)
        return self._answer(os.waitstatus_to_exitcode(status), cpu_seconds)

    def _answer(self, returncode: int, cpu_seconds: float) -> dict[str, Any]:
        seconds = time.monotonic() - self._started
        identity, limit = self.identity, self._output_limit
        trouble = self._trouble()
        stdout, stderr = (bytes(buffer) for buffer in self._received.values())
        reason = self._reason(returncode, stderr, cpu_seconds)
        self._request, self.deadline = None, inf
        if trouble:
            return {"id": identity, "error": trouble.decode("utf-8", "replace")}
        return {
            "id": identity,
            "stdout": stdout[:limit].decode("utf-8", "replace"),
            "stderr": stderr[:limit].decode("utf-8", "replace"),
            "returncode": returncode,
            "stop_reason": reason,
            "seconds": seconds,
        }

    def _drain(self, fd: int) -> None:
        limit = self._output_limit
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

    def _trouble(self) -> bytes:
        try:
            return self._control.recv(_CHUNK)
        except OSError:  # killed before it read its request
            return b""

    def _reason(self, returncode: int, stderr: bytes, cpu_seconds: float) -> SandboxStop:
        in_time = self._stop == SandboxStop.TIMEOUT and returncode != -signal.SIGKILL
        if self._stop != SandboxStop.EXIT and not in_time:
            return self._stop
        limits = self._request["limits"] if self._request else {}
        if returncode in (-signal.SIGXCPU, -signal.SIGKILL) and cpu_seconds >= limits["cpu_seconds"]:
            return SandboxStop.TIMEOUT
        if returncode == 1 and _MEMORY_ERROR.search(stderr):
            return SandboxStop.MEMORY
        return SandboxStop.KILLED if returncode < 0 else SandboxStop.EXIT


def _without_code(request: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the warm parent keeps: children forked later have a copy of its memory."""
    return {"id": request["id"], "limits": request["limits"]} if request else None
