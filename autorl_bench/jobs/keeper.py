"""The keeper of one job: a process of ours, outside of the job's reach, that starts, measures, limits and ends it.

It ends the job at a limit, when told to (SIGTERM), and when its supervisor dies. Reads its request from stdin (an
argument would show declared secrets to every user); on stdout it says why a job could not be confined.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from astune.leftovers import MARK, own_mark
from astune.tools.types import SandboxLevel
from autorl_bench.jobs import inside, record
from autorl_bench.jobs.streams import Capture, Relay
from autorl_bench.jobs.types import Endpoint, JobLimits, JobRecord, JobStop, Process
from autorl_bench.metering import Meter, Usage

_INTERVAL = 0.05
#: Seconds between two looks at the disk, and how many times longer than one look they are.
_DISK_INTERVAL, _DISK_SHARE = 0.25, 10
_START_SECONDS = 60.0
_HERE = ("127.0.0.1", "localhost")
_MAX_DESCRIPTORS = 64
_PR_SET_CHILD_SUBREAPER = 36
REFUSED = 3
_PLANS = TypeAdapter(inside.Plan)


class Keeper:
    """One job, from its fork to its final record."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._folder = Path(request["folder"])
        self._plan = _PLANS.validate_python(request["plan"])
        self._endpoints = [Endpoint(**endpoint) for endpoint in request["endpoints"]]
        self._supervisor = record.this_process(request["supervisor"])
        self._supervisor_fd = os.pidfd_open(self._supervisor.pid)
        self._features = tuple(request["features"])
        self._cpu = 0.0
        self._exit_code: int | None = None
        self._stop: JobStop | None = None
        self._problem = ""
        self._changed = asyncio.Event()

    def start(self) -> str:
        """Forks the job's first process and waits until it is confined; why it could not be, or nothing."""
        # Orphans become the keeper's children, where they can be found: all that holds a job without namespaces.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._plan.environment[MARK] = own_mark()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ends = [os.pipe() for _ in range(2)]
        own = os.pidfd_open(os.getpid())
        self._child = os.fork()
        if self._child == 0:
            self._control.close()
            inside.start(self._plan, theirs, own, *(write_end for _, write_end in ends))
        theirs.close()
        for fd in (own, *(write_end for _, write_end in ends)):
            os.close(fd)
        self._pipes = [read_end for read_end, _ in ends]
        self._control.settimeout(_START_SECONDS)
        try:
            data, self._descriptors, _, _ = socket.recv_fds(self._control, 1 << 16, _MAX_DESCRIPTORS)
        except TimeoutError:
            return "it did not get ready"
        message = json.loads(data) if data else {"error": "its first process died"}
        return str(message.get("error", ""))

    async def watch(self) -> None:
        """Lets the confined job go, and keeps it within its limits until nothing of it is left."""
        limits = self._plan.limits
        logs = zip(self._pipes, (record.STDOUT, record.STDERR), strict=True)
        captures = [Capture(pipe, self._folder / name, limits.output, self._unwritable) for pipe, name in logs]
        relays = [asyncio.create_task(relay.serve()) for relay in self._relays()]
        meter = self._meter()
        started = self._first_record()
        self._listen()
        record.write(self._folder, started)
        with self._trouble():
            self._control.send(b"go")
            await self._until_stop(meter, limits)
        await self._end_all(meter)
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)
        for capture in captures:
            with self._trouble():
                capture.close()
        usage = meter.finish(self._cpu)
        stop = self._verdict(usage)
        problem = self._problem if stop == JobStop.INTERRUPTED else ""
        final = replace(started, stop=stop, exit_code=self._exit_code, usage=usage, problem=problem)
        record.write(self._folder, final)
        record.clean(self._folder)

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        """What goes wrong in here ends the job, and its record says what it was."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self._interrupt(f"its keeper failed: {type(error).__name__}: {error}")

    def _unwritable(self, error: OSError) -> None:
        self._interrupt(f"its output cannot be written: {error}")

    def _interrupt(self, problem: str) -> None:
        self._problem = self._problem or problem
        self._decide(JobStop.INTERRUPTED)

    def _relays(self) -> list[Relay]:
        if self._plan.kernel:
            listeners = [socket.socket(fileno=fd) for fd in self._descriptors[1:]]
            return [Relay(listener, endpoint) for listener, endpoint in zip(listeners, self._endpoints, strict=True)]
        # Its network is the machine's: what is here is where the job looks for it.
        far = [endpoint for endpoint in self._endpoints if endpoint.host not in _HERE]
        return [Relay(socket.create_server((_HERE[0], endpoint.port)), endpoint) for endpoint in far]

    def _meter(self) -> Meter:
        folders = [self._folder / record.TEMPORARY, *map(Path, self._plan.view.writable)]
        if self._plan.kernel:
            return Meter(Path(f"/proc/self/fd/{self._descriptors[0]}"), folders)
        return Meter(Path("/proc"), folders, root=os.getpid())

    def _first_record(self) -> JobRecord:
        first = self._child
        if self._plan.kernel:  # the stem's only child is the init
            first = int(Path(f"/proc/{first}/task/{first}/children").read_text())
        self._first = record.this_process(first)
        level = SandboxLevel.KERNEL if self._plan.kernel else SandboxLevel.PROCESS
        keeper = record.this_process(os.getpid())
        return JobRecord(level, self._features, self._supervisor, keeper, self._first, self._plan.environment[MARK])

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._decide, JobStop.CANCELLED)
        loop.add_reader(self._supervisor_fd, self._interrupt, "the process that had started it died")
        self._child_fd = os.pidfd_open(self._child)
        loop.add_reader(self._child_fd, self._decide, JobStop.EXIT)

    def _decide(self, stop: JobStop) -> None:
        """The first reason is the reason."""
        self._stop = self._stop or stop
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._supervisor_fd)  # both stay readable for good
        loop.remove_reader(self._child_fd)
        self._changed.set()

    async def _until_stop(self, meter: Meter, limits: JobLimits) -> None:
        next_disk = 0.0
        while self._stop is None:
            look = time.monotonic() >= next_disk
            try:
                usage = meter.sample(limits.memory, limits.processes, disk=look)
            except OSError:  # it made a folder that cannot be measured: it may hold anything
                self._decide(JobStop.DISK)
                return
            if look:
                took = time.monotonic() - meter.started - usage.wall_seconds
                next_disk = time.monotonic() + max(_DISK_INTERVAL, _DISK_SHARE * took)
            if (stop := _exceeded(meter, usage, limits)) is not None:
                self._decide(stop)
                return
            with contextlib.suppress(TimeoutError):
                rest = limits.wall_seconds - usage.wall_seconds
                await asyncio.wait_for(self._changed.wait(), max(0.0, min(_INTERVAL, rest)))

    async def _end_all(self, meter: Meter) -> None:
        """Kills and waits until nothing of the job is left. With a PID namespace the death of its init is enough.

        Without one, the job may start processes as fast as they are ended. Its group dies in one call, and nothing is
        reaped while anything lives: the dead hold their ids, until there are none to start another process with.
        """
        with contextlib.suppress(OSError):  # only root may: the job's processes compete with their end
            os.setpriority(os.PRIO_PROCESS, 0, -20)
        if not self._plan.kernel:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child, signal.SIGKILL)
        while True:
            if self._plan.kernel:
                record.kill(self._first)
            living = meter.processes_now()
            if not living:
                self._reap()
                if not self._has_children():
                    return
            elif not self._plan.kernel:
                for pid, birth in living.items():
                    record.kill(Process(pid, birth))
            await asyncio.sleep(0.005)

    def _reap(self) -> None:
        """Waits for dead children; sums what they and theirs used, and notes how the programme ended."""
        while self._has_children():
            pid, status, used = os.wait4(-1, os.WNOHANG)
            if not pid:
                return
            self._cpu += used.ru_utime + used.ru_stime
            if pid == self._child:
                self._exit_code = self._status() if self._plan.kernel else os.waitstatus_to_exitcode(status)

    def _status(self) -> int | None:
        """What the init said of the programme's end; None when it was ended first."""
        self._control.setblocking(False)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if data := self._control.recv(1 << 16):
                return int(json.loads(data)["status"])
        return None

    def _has_children(self) -> bool:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def _verdict(self, usage: Usage) -> JobStop:
        if self._stop == JobStop.EXIT and usage.cpu_seconds > self._plan.limits.cpu_seconds:
            return JobStop.CPU  # each process has this limit by itself, too, and may have died of it
        if self._stop == JobStop.EXIT and self._exit_code is None:
            self._problem = "its first process was killed from outside"
            return JobStop.INTERRUPTED
        return self._stop or JobStop.INTERRUPTED


def _exceeded(meter: Meter, usage: Usage, limits: JobLimits) -> JobStop | None:
    checks = {
        JobStop.WALL: usage.wall_seconds >= limits.wall_seconds,
        JobStop.CPU: usage.cpu_seconds > limits.cpu_seconds,
        JobStop.PROCESSES: meter.processes > limits.processes,
        JobStop.MEMORY: meter.memory > limits.memory,
        JobStop.DISK: meter.disk > limits.disk,
    }
    return next((stop for stop, reached in checks.items() if reached), None)


def main() -> int:
    """Keeps the job of the request on stdin; the exit status is ``REFUSED`` for one that could not be confined."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    keeper = Keeper(json.load(sys.stdin))
    if problem := keeper.start():
        print(problem)
        return REFUSED
    asyncio.run(keeper.watch())
    return 0
