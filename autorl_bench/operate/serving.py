"""The server's process and the grader's, each watched by whoever started it and started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from astune.errors import AstuneError, UserError
from autorl_bench.bench import Bench
from autorl_bench.grader.ends import give_up_all
from autorl_bench.processes import process_name
from autorl_bench.store import StoreError
from autorl_bench.submission import remove_unfinished
from autorl_bench.types import Reason

#: So many deaths in a row, each within so many seconds of the start, and a process is not started again.
MAX_DEATHS, SHORT_LIFE = 5, 180.0
_PAUSE = 0.2
_HOST, _EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104 - compared with, never listened at unless asked for
_LOOPBACK = ("127.0.0.1", "localhost")
#: How long a process may take to end by itself. A grader that takes longer is at an evaluation, which is made again.
_GRADER_SECONDS, _SERVER_SECONDS = 10.0, 25.0
_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a server is reached: ``pages`` for people, ``agents`` for a run's agent, which sees no pages there."""

    pages: str
    agents: str


class Watched:
    """A child process that is started again when it dies. It ends when its standard input does: with us, at the latest.

    It is in a session of its own: Ctrl-C in a terminal is for whoever started it, who then ends it.

    Args:
        command: what to start.
        patience: how long it may take to end when it is told to, in seconds.
        after_death: is told the process id of each child that ended, after it is gone; whether the death was at work,
            which others count.
        at_last: is called when it has died too often and is not started again.
        pass_fds: descriptors that the child inherits.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        patience: float = _SERVER_SECONDS,
        after_death: Callable[[int], bool] = lambda _: False,
        at_last: Callable[[], None] = lambda: None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._command, self._patience, self._pass_fds = tuple(command), patience, tuple(pass_fds)
        self._after_death, self._at_last = after_death, at_last
        self._stopping, self._starting = threading.Event(), threading.Lock()
        self._deaths = 0
        self._begun = time.monotonic()
        self.problem = ""
        self.process = self._start()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdin=subprocess.PIPE, pass_fds=self._pass_fds, start_new_session=True)

    def _watch(self) -> None:
        """Waits for the child's end, again and again. Only this thread starts it, and reaps it."""
        while True:
            status = self.process.wait()
            at_work = self._after_death(self.process.pid)
            if self._stopping.is_set():
                return
            if at_work or time.monotonic() - self._begun > SHORT_LIFE:
                self._deaths = 0
            if not self._starts_again(f"died {{}} times, last with {status}"):
                return

    def _starts_again(self, death: str) -> bool:
        """Counts a death; False where there is to be no other child."""
        self._deaths += 1
        if self._deaths > MAX_DEATHS:
            self.problem = f"{' '.join(self._command[2:4])} {death.format(self._deaths)}"
            print(f"error: {self.problem}; it is not started again", file=sys.stderr, flush=True)
            self._at_last()
            return False
        self._stopping.wait(_PAUSE)
        with self._starting:
            if self._stopping.is_set():
                return False
            self._begun = time.monotonic()
            try:
                self.process = self._start()
                return True
            except OSError as error:  # no process to be had just now
                death = f"could not be started {{}} times: {error}"
        return self._starts_again(death)

    def stop(self) -> None:
        """Ends the child: in good order if it does so in time."""
        with self._starting:
            self._stopping.set()
        ends: tuple[Callable[[], None], ...] = (self._close, self.process.terminate, self.process.kill)
        for end in ends:
            with contextlib.suppress(OSError):  # it is dead already
                end()
            self._thread.join(self._patience)
            if not self._thread.is_alive():
                return

    def _close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()


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


def serve(
    bench: Bench,
    options: Sequence[str],
    listener: socket.socket,
    *,
    agents: socket.socket | None = None,
    until_eof: bool = False,
) -> None:
    """Serves until it is told to stop, with a grader beside it.

    Args:
        bench: the benchmark.
        options: what the grader's command needs to open the same one.
        listener: where to serve everything.
        agents: where to serve what agents may ask, and no pages; None for nowhere else.
        until_eof: stop when standard input ends.
    """
    import uvicorn

    from autorl_bench.server import make_app

    def give_up_leases(pid: int) -> bool:
        remove_unfinished(bench.home.vault)
        with contextlib.suppress(StoreError), bench.store.write() as tx:
            return tx.queue.give_up(names.get(pid, "")) > 0  # each has cost a job one of its attempts
        return False

    remove_unfinished(bench.home.vault)
    names: dict[int, str] = {}
    hosts = sorted({*_LOOPBACK, listener.getsockname()[0]})
    everything = make_app(bench, hosts=["*"] if hosts[0] == _EVERYWHERE else hosts)
    places = [(everything, listener)] + ([(make_app(bench, pages=False), agents)] if agents is not None else [])
    servers = [
        (uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)), place)
        for app, place in places
    ]

    def stop() -> None:
        for server, _ in servers:
            server.should_exit = True

    async def all_of_them() -> None:
        await asyncio.gather(*(server.serve(sockets=[place]) for server, place in servers))

    def close() -> None:
        reason = Reason("no_grader", f"the grader cannot be kept running: {grader.problem}")
        with contextlib.suppress(StoreError), bench.store.write() as tx:
            give_up_all(tx, reason)
        stop()

    grader = _NamedGrader(command("grader", *options, "--until-eof"), give_up_leases, close, names)
    if until_eof:
        stop_at_eof(stop)
    try:
        asyncio.run(all_of_them())
    finally:
        grader.stop()
    if grader.problem:
        raise AstuneError(f"there is no grader: {grader.problem}")


class _NamedGrader(Watched):
    """A watched grader that remembers under which name each of its processes leases jobs."""

    def __init__(
        self,
        command: Sequence[str],
        after_death: Callable[[int], bool],
        at_last: Callable[[], None],
        names: dict[int, str],
    ) -> None:
        self._names = names
        super().__init__(command, patience=_GRADER_SECONDS, after_death=after_death, at_last=at_last)

    def _start(self) -> subprocess.Popen[bytes]:
        process = super()._start()
        self._names[process.pid] = process_name(process.pid)
        return process


def command(verb: str, *options: str) -> tuple[str, ...]:
    """The command line of one of our own processes."""
    return (sys.executable, "-m", "autorl_bench", verb, *options)


@contextmanager
def served(options: Sequence[str], port: int) -> Iterator[Addresses]:
    """A server in a process of its own on loopback while the block runs.

    The listening sockets stay here, so that requests that come while a dead server is started again just wait.

    Raises:
        UserError: the port is in use.
        AstuneError: it does not answer.
    """
    with listen(_HOST, port) as pages, listen(_HOST, 0) as agents:
        fds = [pages.fileno(), agents.fileno()]
        ours = ("--listen-fd", str(fds[0]), "--agents-fd", str(fds[1]), "--until-eof")
        server = Watched(command("serve", *options, *ours), pass_fds=fds)
        addresses = Addresses(*(f"http://{_HOST}:{one.getsockname()[1]}" for one in (pages, agents)))
        try:
            _await_health(addresses.agents, server)
            yield addresses
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
