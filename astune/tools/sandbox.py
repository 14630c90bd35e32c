"""The sandbox: one call runs a piece of Python code in a confined child of a warm parent process.

``python -m astune.tools.sandbox --probe`` prints the level that this machine offers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

from astune.errors import SandboxError
from astune.tools.frames import Decoder, encode
from astune.tools.types import SandboxLevel, SandboxLimits, SandboxProbe, SandboxResult, SandboxStop

_CHUNK = 1 << 16
_START_SECONDS = 60.0
_LIBRARY = (
    *("math", "cmath", "json", "statistics", "fractions", "decimal", "itertools", "functools", "collections", "re"),
    *("datetime", "random", "string", "operator", "heapq", "bisect", "typing", "dataclasses", "calendar"),
)
#: All that the warm parent and its children have as environment. The hash seed makes sets print the same every time.
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_BOOT = (
    "import json, sys; arguments = json.loads(sys.argv[1]); sys.path.insert(0, arguments['root']); "
    "from astune.tools.warm_parent import main; sys.path.pop(0); main(arguments)"
)


class _Connection:
    """One warm parent: its process, its socket, the calls it owes an answer."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self.process = _spawn(arguments | {"fd": theirs.fileno(), "client": os.getpid()})
        self._lock = threading.Lock()
        self._calls: dict[int, Future[SandboxResult]] = {}
        self._alive = True
        self._owner = os.getpid()
        self.probe = self._greet()
        threading.Thread(target=self._read, name="sandbox-reader", daemon=True).start()

    @property
    def alive(self) -> bool:
        """False once the warm parent has hung up, and in a fork of the process that started it."""
        return self._alive and self.owned

    @property
    def owned(self) -> bool:
        """False in a fork: the connection still belongs to the process that started it."""
        return self._owner == os.getpid()

    def _greet(self) -> SandboxProbe:
        self._socket.settimeout(_START_SECONDS)
        decoder = Decoder()
        messages: list[dict[str, Any]] = []
        try:
            while not messages:
                data = self._socket.recv(_CHUNK)
                if not data:
                    raise SandboxError("The sandbox's warm parent died while it started.")
                messages = decoder.feed(data)
            if "error" in messages[0]:
                raise SandboxError(f"The sandbox cannot start: {messages[0]['error']}")
        except SandboxError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise SandboxError(f"The sandbox cannot start: {error}") from error
        self._socket.settimeout(None)
        greeting = messages[0]
        return SandboxProbe(SandboxLevel(greeting["level"]), tuple(greeting["features"]), greeting["reason"])

    def submit(self, identity: int, code: str, limits: SandboxLimits) -> Future[SandboxResult]:
        """Sends one call; its future always ends, with ``KILLED`` when the warm parent dies."""
        future: Future[SandboxResult] = Future()
        frame = encode({"id": identity, "code": code, "limits": dataclasses.asdict(limits)})
        with self._lock:
            self._calls[identity] = future
            try:
                self._socket.sendall(frame)
            except OSError:
                self._alive = False
        if not self._alive:
            self._settle(identity, _killed())
        return future

    def cancel(self, identity: int) -> None:
        """Kills the call's child, or takes the call out of the queue; nobody waits for an answer any more."""
        with self._lock:
            if self._calls.pop(identity, None) is None:
                return
            try:
                self._socket.sendall(encode({"cancel": identity}))
            except OSError:
                self._alive = False

    def _read(self) -> None:
        decoder = Decoder()
        try:
            while data := self._socket.recv(_CHUNK):
                for message in decoder.feed(data):
                    self._settle(message.pop("id"), _outcome(message))
        except OSError:
            pass  # the same as an end of stream: the warm parent is gone
        self._alive = False
        for identity in list(self._calls):
            self._settle(identity, _killed())

    def _settle(self, identity: int, outcome: SandboxResult | SandboxError) -> None:
        with self._lock:
            future = self._calls.pop(identity, None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if isinstance(outcome, SandboxError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def close(self) -> None:
        """Hangs up: the warm parent kills its children and ends."""
        with contextlib.suppress(OSError):  # already gone
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._socket.close()


def _spawn(arguments: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Starts the warm parent, isolated by ``-s -P`` and an own environment; ``-I`` would ignore the hash seed."""
    arguments["root"] = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        [sys.executable, "-s", "-P", "-c", _BOOT, json.dumps(arguments)],
        pass_fds=[arguments["fd"]],
        env=ENVIRONMENT,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _killed() -> SandboxResult:
    return SandboxResult("", "", -9, SandboxStop.KILLED, 0.0)


def _outcome(message: dict[str, Any]) -> SandboxResult | SandboxError:
    if "error" in message:
        return SandboxError(f"The sandbox refused to run code: {message['error']}")
    return SandboxResult(**message | {"stop_reason": SandboxStop(message["stop_reason"])})


class Sandbox:
    """Runs Python code in confined children of one warm parent. Safe to share between threads and event loops.

    Args:
        require: ``"kernel"`` raises ``SandboxError`` instead of running code at a lower level.
        workers: Children that run at once; further calls wait in order.
        preload: Modules imported once, in the warm parent, so that calls need not import them.
        limits: Limits of calls that name none.
        at_most: Highest level to use; ``"process"`` leaves kernel confinement out.

    The warm parent starts with the first call (or ``start``) and again after it was killed.
    """

    def __init__(
        self,
        *,
        require: SandboxLevel | str | None = None,
        workers: int = 2,
        preload: Sequence[str] = (),
        limits: SandboxLimits | None = None,
        at_most: SandboxLevel | str = SandboxLevel.KERNEL,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self.limits = limits or SandboxLimits()
        self._arguments = {
            "require": SandboxLevel(require) if require else None,
            "at_most": SandboxLevel(at_most),
            "workers": workers,
            "preload": [*_LIBRARY, *preload],
        }
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._next = 0

    def start(self) -> SandboxProbe:
        """Starts the warm parent if none is alive. Raises SandboxError when it cannot start, or not as required."""
        return self._connect().probe

    def _connect(self) -> _Connection:
        with self._lock:
            if self._connection is None or not self._connection.alive:
                if self._connection is not None and self._connection.owned:
                    self._connection.close()
                self._connection = _Connection(dict(self._arguments))
            return self._connection

    @property
    def level(self) -> SandboxLevel:
        """The level at which code runs; starts the warm parent if need be."""
        return self.start().level

    @property
    def pid(self) -> int:
        """Process id of the warm parent."""
        return self._connect().process.pid

    def _submit(self, code: str, limits: SandboxLimits | None) -> tuple[_Connection, int, Future[SandboxResult]]:
        limits = limits or self.limits
        if limits.processes != 1:
            raise SandboxError(f"limits.processes is {limits.processes}; a sandboxed call is one process: make it 1")
        connection = self._connect()
        with self._lock:
            self._next += 1
            identity = self._next
        return connection, identity, connection.submit(identity, code, limits)

    def run_sync(self, code: str, limits: SandboxLimits | None = None) -> SandboxResult:
        """``run`` for callers without an event loop; blocks."""
        return self._submit(code, limits)[2].result()

    async def run(self, code: str, limits: SandboxLimits | None = None) -> SandboxResult:
        """Runs ``code`` in a fresh child; cancelling kills it.

        Raises:
            SandboxError: the warm parent cannot start, or not at the required level. No code has run then.
        """
        if self._connection is None or not self._connection.alive:
            await asyncio.to_thread(self._connect)
        connection, identity, future = self._submit(code, limits)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            connection.cancel(identity)
            raise

    def close(self) -> None:
        """Kills what runs and ends the warm parent. A later call starts a new one."""
        with self._lock:
            if self._connection is not None and self._connection.owned:
                self._connection.close()
            self._connection = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._connect)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> None:
    """Command line: ``--probe`` prints level, features and reason as JSON."""
    parser = argparse.ArgumentParser(prog="python -m astune.tools.sandbox", description=__doc__)
    parser.add_argument("--probe", action="store_true", required=True, help="print the level this machine offers")
    parser.parse_args()
    with Sandbox() as sandbox:
        print(json.dumps(dataclasses.asdict(sandbox.start())))


if __name__ == "__main__":
    main()
