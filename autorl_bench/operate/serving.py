"""The server's process and the grader's, each watched by whoever started it and started again when it dies."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from astune.errors import AstuneError, UserError
from autorl_bench.bench import Bench
from autorl_bench.grader.worker import worker_name
from autorl_bench.store import StoreError

#: So many deaths within so many seconds, and a process is not started again.
MAX_DEATHS, DEATH_WINDOW = 5, 60.0
_PAUSE = 0.2
_STOP_SECONDS = 30.0
_START_SECONDS = 60.0


class Watched:
    """A child process that is started again when it dies. It ends when its standard input does: with us, at the latest.

    Args:
        command: what to start.
        after_death: is told the process id of each child that died, after it is gone.
        pass_fds: descriptors that the child inherits.
    """

    def __init__(
        self, command: Sequence[str], *, after_death: Callable[[int], None] | None = None, pass_fds: Sequence[int] = ()
    ) -> None:
        self._command, self._after_death, self._pass_fds = tuple(command), after_death, tuple(pass_fds)
        self._stopping = threading.Event()
        self._deaths: list[float] = []
        self.problem = ""
        self.process = self._start()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdin=subprocess.PIPE, pass_fds=self._pass_fds)

    def _watch(self) -> None:
        while True:
            pid, status = self.process.pid, self.process.wait()
            if self._stopping.is_set():
                return
            if self._after_death is not None:
                self._after_death(pid)
            now = time.monotonic()
            self._deaths = [at for at in self._deaths if now - at < DEATH_WINDOW] + [now]
            if len(self._deaths) > MAX_DEATHS:
                self.problem = f"{' '.join(self._command[2:4])} died {len(self._deaths)} times, last with {status}"
                print(f"error: {self.problem}; it is not started again", file=sys.stderr, flush=True)
                return
            time.sleep(_PAUSE)
            self.process = self._start()

    def stop(self) -> None:
        """Ends the child: in good order if it does so in time."""
        self._stopping.set()
        with contextlib.suppress(OSError):  # it is dead already
            if self.process.stdin is not None:
                self.process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._thread.join(_STOP_SECONDS)


def stop_at_eof(stop: Callable[[], None]) -> None:
    """Calls ``stop`` when standard input ends, which it does when whoever started this process is gone."""

    def wait() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        stop()

    threading.Thread(target=wait, name="eof", daemon=True).start()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        UserError: the port is taken, or the address is none of this machine's.
    """
    try:
        return socket.create_server((host, port), backlog=512)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} is in use: another server may be running there; choose one with --port"
            ) from error
        raise UserError(f"cannot listen at {host}:{port}: {error.strerror or error}") from error


def serve(bench: Bench, options: Sequence[str], listener: socket.socket, *, until_eof: bool = False) -> None:
    """Serves until it is told to stop, with a grader beside it.

    Args:
        bench: the benchmark.
        options: what the grader's command needs to open the same one.
        listener: where to serve.
        until_eof: stop when standard input ends.
    """
    import uvicorn

    from autorl_bench.server import make_app

    def give_up_leases(pid: int) -> None:
        with contextlib.suppress(StoreError), bench.store.write() as tx:
            tx.queue.give_up(names.get(pid, ""))

    names: dict[int, str] = {}
    config = uvicorn.Config(make_app(bench), log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    grader = _NamedGrader(command("grader", *options, "--until-eof"), give_up_leases, names)
    if until_eof:
        stop_at_eof(lambda: setattr(server, "should_exit", True))
    try:
        server.run(sockets=[listener])
    finally:
        grader.stop()


class _NamedGrader(Watched):
    """A watched grader that remembers under which name each of its processes leases jobs."""

    def __init__(self, command: Sequence[str], after_death: Callable[[int], None], names: dict[int, str]) -> None:
        self._names = names
        super().__init__(command, after_death=after_death)

    def _start(self) -> subprocess.Popen[bytes]:
        process = super()._start()
        self._names[process.pid] = worker_name(process.pid)
        return process


def command(verb: str, *options: str) -> tuple[str, ...]:
    """The command line of one of our own processes."""
    return (sys.executable, "-m", "autorl_bench", verb, *options)


@contextmanager
def served(options: Sequence[str], host: str, port: int) -> Iterator[str]:
    """A server in a process of its own while the block runs; yields its address.

    The listening socket stays here, so that requests that come while a dead server is started again just wait.

    Raises:
        UserError: the port is in use.
        AstuneError: it does not answer.
    """
    with listen(host, port) as listener:
        os.set_inheritable(listener.fileno(), True)
        server = Watched(
            command("serve", *options, "--listen-fd", str(listener.fileno()), "--until-eof"),
            pass_fds=[listener.fileno()],
        )
        address = f"http://{host}:{listener.getsockname()[1]}"
        try:
            _await_health(address, server)
            yield address
        finally:
            server.stop()


def _await_health(address: str, server: Watched) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and not server.problem:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{address}/healthz", timeout=10, trust_env=False).is_success:
                return
        time.sleep(0.1)
    raise AstuneError(f"the server does not answer at {address}: {server.problem or 'see what it printed above'}")


def options_of(home: Path, scenario_folders: Sequence[Path]) -> list[str]:
    """The options by which another process opens the same benchmark; a store's URL goes by environment."""
    options = ["--home", str(home)]
    for folder in scenario_folders:
        options += ["--scenarios", str(folder.absolute())]
    return options
