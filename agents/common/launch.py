"""Starts training scripts: in a fresh interpreter, or as a fork of one that has imported the libraries already.

A training run of a minute should not pay seconds for imports each time it is started. The warm launcher pays them once.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

START_SCRIPT = Path(__file__).with_name("start_script.py")
#: Imports included, on a busy machine.
_START_SECONDS = 120.0
WARM_PARENT = Path(__file__).with_name("warm_parent.py")


@dataclass(frozen=True, slots=True)
class Start:
    """What to start: a Python script with its arguments' place taken by its environment, which is whole."""

    script: Path
    folder: Path
    environment: Mapping[str, str]
    stdout: Path


class Process(Protocol):
    """A started script, which leads a process group of its own."""

    @property
    def pid(self) -> int:
        """Its process id, and its group's."""
        ...

    def poll(self) -> int | None:
        """Its exit status (negative for a signal) once it has ended."""
        ...


class Launcher(Protocol):
    """Starts scripts."""

    def wait_until_ready(self) -> None:
        """Returns when a script would start at once."""
        ...

    def start(self, what: Start) -> Process:
        """Starts one; stdout and stderr go to one file."""
        ...


class ColdLauncher:
    """A fresh interpreter each time."""

    def wait_until_ready(self) -> None:
        """At once: there is nothing to wait for."""

    def start(self, what: Start) -> Process:
        """See :class:`Launcher`."""
        with what.stdout.open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, "-u", str(START_SCRIPT), str(what.script)],
                cwd=what.folder,
                env=dict(what.environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


class WarmLauncher:
    """Forks of one interpreter that has imported the trainer. Where that one dies, scripts start in fresh ones.

    Use as a context manager. One script at a time.
    """

    def __init__(self) -> None:
        # What torch reads when it is loaded, as the trainer's own command sets it.
        environment = dict(os.environ) | {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "20000")}
        self._parent = subprocess.Popen(
            [sys.executable, "-u", str(WARM_PARENT)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        assert self._parent.stdout is not None
        self._lines = _Lines(self._parent.stdout.fileno())
        self._is_ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait_until_ready(self) -> None:
        """Returns when the libraries are imported, or the interpreter is found to be of no use."""
        if self._is_ready:
            return
        with suppress(OSError, EOFError):  # starting a script finds out, too, and does without it
            if self._lines.read(timeout=_START_SECONDS) is None:
                self._parent.kill()
        self._is_ready = True

    def start(self, what: Start) -> Process:
        """See :class:`Launcher`."""
        self.wait_until_ready()
        request = {
            "script": str(what.script),
            "folder": str(what.folder),
            "environment": dict(what.environment),
            "stdout": str(what.stdout),
        }
        assert self._parent.stdin is not None
        try:
            self._parent.stdin.write(json.dumps(request).encode() + b"\n")
            answer = self._lines.read(timeout=_START_SECONDS)
            if answer is None:
                self._parent.kill()
                return ColdLauncher().start(what)
            return _Fork(int(json.loads(answer)["pid"]), self._parent, self._lines)
        except (OSError, EOFError):
            return ColdLauncher().start(what)

    def close(self) -> None:
        """Ends the warm interpreter."""
        assert self._parent.stdin is not None and self._parent.stdout is not None
        with suppress(OSError):
            self._parent.stdin.close()
        try:
            self._parent.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._parent.kill()
            self._parent.wait()
        self._parent.stdout.close()


class _Fork:
    """A fork of the warm interpreter, which says when it has ended."""

    def __init__(self, pid: int, parent: subprocess.Popen[bytes], lines: _Lines) -> None:
        self.pid = pid
        self._parent = parent
        self._lines = lines
        self._status: int | None = None

    def poll(self) -> int | None:
        """See :class:`Process`."""
        if self._status is None:
            try:
                line = self._lines.read(timeout=0)
                self._status = None if line is None else int(json.loads(line)["status"])
            except (OSError, EOFError):  # the warm interpreter is gone, and its forks with it
                end_group(self.pid)
                self._status = -signal.SIGKILL
        return self._status


class _Lines:
    """Lines of a pipe, as they come."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = b""

    def read(self, timeout: float) -> bytes | None:
        """The next line; None if there is none within ``timeout`` seconds. Raises EOFError at the end."""
        ends_at = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = max(0.0, ends_at - time.monotonic())
            if not select.select([self._descriptor], [], [], left)[0]:
                return None
            if not (chunk := os.read(self._descriptor, 65536)):
                raise EOFError
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def end_group(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Sends a signal to a process and to all of its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def wait_until_ended(process: Process, seconds: float) -> bool:
    """Waits; whether it has ended."""
    ends_at = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.02)
    return True
