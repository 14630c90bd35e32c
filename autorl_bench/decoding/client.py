"""Asks for completions and hands them out as they come."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from typing import Any

from astune.tools.frames import Decoder, encode
from autorl_bench.decoding.orders import Completion, Order, Prompt, error_of
from autorl_bench.policy import EvaluationFailure

#: Seconds without a word after which the process counts as hung. It says something every few seconds; a step of a
#: large model, or reading its weights from a slow disk, may hold it for longer.
SILENCE = 900.0
_CHUNK = 1 << 16
#: All that the process has as environment: it needs no secret.
_KEPT = ("PATH", "HOME", "LANG", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "GOMP_SPINCOUNT")


class _Process:
    """The decoding process and the socket to it."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._scratch = tempfile.TemporaryDirectory(prefix="autorl-decoding-")
        self.owner = os.getpid()
        self._decoder = Decoder()
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-s", "-m", "autorl_bench.decoding.process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=kept | {"TMPDIR": self._scratch.name},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
            )

    @property
    def alive(self) -> bool:
        """Whether it can take an order; false in a fork of the process that started it."""
        return self.owner == os.getpid() and self._popen.poll() is None

    def send(self, order: Order) -> None:
        """Raises EvaluationFailure."""
        self.socket.settimeout(SILENCE)
        try:
            self.socket.sendall(encode(order.frame()))
        except OSError as error:
            raise self.failure() from error

    def wait(self) -> list[dict[str, Any]]:
        """The next frames.

        Raises:
            EvaluationFailure: it has died, or hangs.
            BlockingIOError: there are none yet, and the socket does not wait.
        """
        frames: list[dict[str, Any]] = []
        while not frames:
            try:
                data = self.socket.recv(_CHUNK)
            except BlockingIOError:
                raise
            except TimeoutError as error:
                raise _hung() from error
            except OSError as error:
                raise self.failure() from error
            if not data:
                raise self.failure()
            frames = self._decoder.feed(data)
        return frames

    def failure(self) -> EvaluationFailure:
        """Why it is gone."""
        try:
            code = self._popen.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return EvaluationFailure("engine", "the decoding process hung up")
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        self._stderr.seek(0)
        last = self._stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
        return EvaluationFailure("engine", f"the decoding process ended with {how}" + (f": {last}" if last else ""))

    def close(self) -> None:
        """Hangs up, upon which it ends."""
        self.socket.close()
        if self.owner == os.getpid():
            try:
                self._popen.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
            self._scratch.cleanup()
        self._stderr.close()


class _Shared:
    """One warm process for all evaluations of this process: starting one takes as long as a small evaluation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: _Process | None = None

    def get(self) -> _Process:
        with self._lock:
            if self._process is None or not self._process.alive:
                self._close()
                self._process = _Process()
            return self._process

    def drop(self) -> None:
        """Ends the process, if there is one, and whatever it is at."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._process is not None:
            self._process.close()
        self._process = None


_shared = _Shared()
atexit.register(_shared.drop)


class Completions:
    """The completions of an order, while they come. Belongs to one event loop, from the first ``of`` on."""

    def __init__(self, process: _Process, order: Order, early: list[dict[str, Any]]) -> None:
        self._process = process
        self._index: Mapping[Prompt, int] = {prompt: index for index, prompt in enumerate(order.prompts)}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._futures: dict[int, asyncio.Future[Completion]] = {}
        self._early = early
        self._missing = len(order.prompts)
        self._ended = False

    async def of(self, prompt: Prompt) -> Completion:
        """The completion of one of the order's prompts.

        Raises:
            InvalidModel: the model's logits are not finite.
            EvaluationFailure: the process failed, died or hangs.
            KeyError: the prompt is not one of the order's.
        """
        index = self._index[prompt]
        if self._loop is None:
            self._listen()
        return await asyncio.shield(self._future(index))

    def close(self) -> None:
        """Stops listening. An order that is not done is given up, and its process with it."""
        if not self._ended:
            _shared.drop()

    def _listen(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._process.socket.setblocking(False)
        self._loop.add_reader(self._process.socket, self._read)
        self._watchdog = self._loop.call_later(SILENCE, lambda: self._fail(_hung()))
        self._take(self._early)

    def _future(self, index: int) -> asyncio.Future[Completion]:
        assert self._loop is not None
        return self._futures.setdefault(index, self._loop.create_future())

    def _read(self) -> None:
        try:
            frames = self._process.wait()
        except BlockingIOError:
            return
        except EvaluationFailure as error:
            self._fail(error)
            return
        self._take(frames)

    def _take(self, frames: list[dict[str, Any]]) -> None:
        assert self._loop is not None
        self._watchdog.cancel()
        for frame in frames:
            if "index" in frame:
                index = frame.pop("index")
                self._future(index).set_result(Completion(**frame))
                self._missing -= 1
            elif "error" in frame:
                self._end()
                self._refuse(error_of(frame))
        if not self._missing:
            self._end()
        if not self._ended:
            self._watchdog = self._loop.call_later(SILENCE, lambda: self._fail(_hung()))

    def _fail(self, error: Exception) -> None:
        """The process is of no use any more."""
        self._end()
        self._refuse(error)
        _shared.drop()

    def _end(self) -> None:
        assert self._loop is not None
        self._ended = True
        self._watchdog.cancel()
        self._loop.remove_reader(self._process.socket)

    def _refuse(self, error: Exception) -> None:
        for index in self._index.values():
            if not (future := self._future(index)).done():
                future.set_exception(error)
                future.exception()  # whoever does not ask for it any more need not be told


def decode(order: Order) -> Completions:
    """Has the prompts of an order completed in the decoding process; returns when the model is loaded.

    Raises:
        InvalidModel: the weights cannot be used.
        EvaluationFailure: the base model cannot be used, or the process failed.
        ModelError: the named renderer does not fit the tokenizer.
    """
    process = _shared.get()
    try:
        process.send(order)
        frames: list[dict[str, Any]] = []
        while not frames:  # a sign of life of the order before may still be there
            frames = [frame for frame in process.wait() if "alive" not in frame]
    except BaseException:
        _shared.drop()
        raise
    first, *rest = frames
    if "error" in first:
        raise error_of(first)
    return Completions(process, order, rest)


def _hung() -> EvaluationFailure:
    return EvaluationFailure("engine", f"the decoding process said nothing for {SILENCE:g} s")
