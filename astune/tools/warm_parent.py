"""The warm parent: a single-threaded process that forks a confined child for each call, ahead of it where it can.

It owns every limit, so that a client whose event loop is busy with a training step still has its
calls cut in time. It trusts its client and nothing that a child does: children write to their own
pipes only, and this process counts, cuts and kills.
"""

from __future__ import annotations

import gc
import importlib
import math
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from typing import Any

from astune.tools import confine, levels
from astune.tools.call import Call
from astune.tools.frames import Decoder, encode
from astune.tools.types import SandboxLevel

_CHUNK = 1 << 16
_SPARES = 4  # at most; with the calls that run never more than ``workers``
_IDLE_SECONDS = 0.002  # a spare is forked when nothing has happened for so long: no call waits for it


class WarmParent:
    """Serves one client over ``control`` until it hangs up."""

    def __init__(
        self, control: socket.socket, client: int | None, confinement: confine.Confinement, workers: int
    ) -> None:
        self._control = control
        self._confinement = confinement
        self._workers = workers
        self._decoder = Decoder()
        self._outgoing = bytearray()
        self._waiting: deque[dict[str, Any]] = deque()
        self._children: dict[int, Call] = {}  # by process id: calls, spares, and spares that could not be used
        self._spares: deque[Call] = deque()
        self._refill = True
        self._selector = selectors.DefaultSelector()
        self._wake_read, wake_write = os.pipe()
        for fd in (self._wake_read, wake_write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        control.setblocking(False)
        self._selector.register(control, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._client = client
        if client is not None:
            self._selector.register(client, selectors.EVENT_READ)

    def serve(self) -> None:
        """Returns when the client has closed its end or died; all children are dead then."""
        try:
            while self._step():
                pass
        finally:
            for call in self._children.values():
                call.kill()

    def send(self, message: dict[str, Any]) -> None:
        """Queues a message; never blocks, for a client that is not reading must not stall the limits."""
        self._outgoing += encode(message)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._control.send(self._outgoing)]
        except BlockingIOError:
            pass
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outgoing else 0)
        self._selector.modify(self._control, events)

    def _step(self) -> bool:
        events = self._selector.select(self._patience())
        if not events and self._lacks_spare():
            self._add_spare()
        for key, mask in events:
            if key.fileobj is self._control:
                if mask & selectors.EVENT_WRITE:
                    self._flush()
                if mask & selectors.EVENT_READ and not self._receive():
                    return False
            elif key.fileobj == self._client:
                return False
            elif key.fileobj == self._wake_read:
                os.read(self._wake_read, _CHUNK)
            elif not key.data.read(key.fd):
                self._selector.unregister(key.fd)
                self._answer(key.data.early_result())
        self._enforce()
        self._reap()
        self._start_waiting()
        return True

    def _patience(self) -> float | None:
        nearest = min((call.deadline for call in self._children.values()), default=math.inf)
        patience = max(0.0, nearest - time.monotonic())
        if self._lacks_spare():
            return min(patience, _IDLE_SECONDS)
        return None if patience == math.inf else patience

    def _receive(self) -> bool:
        try:
            data = self._control.recv(_CHUNK)
        except BlockingIOError:
            return True
        for message in self._decoder.feed(data):
            if "cancel" in message:
                self._cancel(message["cancel"])
            else:
                self._waiting.append(message)
        return bool(data)

    def _cancel(self, identity: int) -> None:
        self._waiting = deque(request for request in self._waiting if request["id"] != identity)
        for call in self._children.values():
            if call.identity == identity:
                call.kill()

    def _start_waiting(self) -> None:
        while self._waiting and len(self._children) - len(self._spares) < self._workers:
            request = self._waiting.popleft()
            if self._use_spare(request):
                continue
            try:
                self._fork(request)
            except OSError as error:  # no process or file descriptor left on this machine
                self.send({"id": request["id"], "error": f"cannot start a process: {error}"})

    def _use_spare(self, request: dict[str, Any]) -> bool:
        return bool(self._spares) and self._spares.popleft().hand_over(request)

    def _fork(self, request: dict[str, Any] | None = None) -> Call:
        call = Call(self._confinement, request)
        self._children[call.pid] = call
        for fd in call.pipes:
            self._selector.register(fd, selectors.EVENT_READ, call)
        return call

    def _lacks_spare(self) -> bool:
        return self._refill and len(self._children) < self._workers and len(self._spares) < _SPARES

    def _add_spare(self) -> None:
        try:
            self._spares.append(self._fork())
        except OSError:
            self._refill = False

    def _enforce(self) -> None:
        now = time.monotonic()
        for call in self._children.values():
            if now >= call.deadline:
                call.time_out()

    def _reap(self) -> None:
        for pid in list(self._children):
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if done:
                self._finish(self._children.pop(pid), status, usage.ru_utime + usage.ru_stime)

    def _finish(self, call: Call, status: int, cpu_seconds: float) -> None:
        for fd in call.pipes:
            if fd in self._selector.get_map():
                self._selector.unregister(fd)
        if call in self._spares:
            self._spares.remove(call)
            self._refill = False  # until a call has ended: spares that cannot live are not made in an endless loop
        self._answer(call.result(status, cpu_seconds))
        call.close()

    def _answer(self, message: dict[str, Any] | None) -> None:
        if message is not None:
            self.send(message)
            self._refill = True


def _preload(modules: list[str]) -> None:
    for name in modules:
        importlib.import_module(name)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)  # a fork shares this state: make it the same in every run
    gc.collect()
    gc.freeze()  # the collector then leaves pages of the warm modules shared with the children


def _split_off(control: socket.socket) -> None:
    """Continues in a child that is the first process of the new PID namespace; the caller just waits for it."""
    parent = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid == 0:
        confine.die_with_parent(parent)
        os.close(parent)
        return
    control.close()
    os.waitpid(pid, 0)
    os._exit(0)


def main(arguments: dict[str, Any]) -> None:
    """Serves the client at the socket ``fd``; ``arguments`` also names preload, workers and require."""
    control = socket.socket(fileno=arguments["fd"])
    control.set_inheritable(False)
    linux = sys.platform == "linux"
    client = os.pidfd_open(arguments["client"]) if linux else None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the client's to handle
    at_most = SandboxLevel(arguments["at_most"])
    namespaces = confine.enter_namespaces() if linux and at_most == SandboxLevel.KERNEL else []
    if "pid" in namespaces:
        _split_off(control)
    try:
        _preload(arguments["preload"])
        probe, confinement = levels.probe(namespaces, at_most)
        if arguments["require"] == SandboxLevel.KERNEL and probe.level != SandboxLevel.KERNEL:
            raise OSError(f"kernel confinement is required and not available: {probe.reason}")
    except (OSError, ImportError) as error:
        control.sendall(encode({"error": str(error)}))
        return
    parent = WarmParent(control, client, confinement, arguments["workers"])
    parent.send({"level": probe.level, "features": probe.features, "reason": probe.reason})
    parent.serve()
