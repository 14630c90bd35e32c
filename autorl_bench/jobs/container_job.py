"""One job's container while it runs: its output, what it uses, why it ended."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from autorl_bench.jobs import container as containers
from autorl_bench.jobs import record
from autorl_bench.jobs.streams import Capture
from autorl_bench.jobs.types import JobLimits, JobRecord, JobSpec, JobStop
from autorl_bench.metering import Usage, held

#: How long the command that shows a container's output may take once the container is gone, in seconds.
_LAST_OUTPUT = 60.0


class ContainerJob:
    """One container while it runs."""

    def __init__(self, spec: JobSpec, folder: Path, container: containers.Container, identity: str) -> None:
        self.spec, self.folder, self.container, self.identity = spec, folder, container, identity
        self.attached: asyncio.subprocess.Process | None = None
        self.record: JobRecord | None = None
        self.pipes = [os.pipe(), os.pipe()]
        self.relays: list[asyncio.Task[None]] = []
        self.usage = Usage()
        self.stop: JobStop | None = None
        self.state: containers.State | None = None
        self.looked = False
        self.group: Path | None = None
        self._captures: list[Capture] = []
        self._problem = ""
        self._written = [container.temporary, spec.workspace]
        self._before = held(self._written)
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the container was made."""
        return time.monotonic() - self._started

    def keep_output(self) -> None:
        """Reads the output from now on; the writing ends are the command's."""
        for (read_end, write_end), name in zip(self.pipes, (record.STDOUT, record.STDERR), strict=True):
            os.close(write_end)
            self._captures.append(Capture(read_end, self.folder / name, self.spec.limits.output, self._unwritable))

    def _unwritable(self, error: OSError) -> None:
        self._problem = f"its output cannot be written: {error}"
        self.stop = self.stop or JobStop.INTERRUPTED

    def measure(self, reading: containers.Reading | None) -> None:
        """Adds a reading, and stops the job at the first limit that is reached."""
        past, seconds = self.usage, self.seconds
        try:
            disk = max(past.disk, held(self._written) - self._before)
        except OSError:  # it made a folder that cannot be measured: it may hold anything
            self.stop, disk = self.stop or JobStop.DISK, past.disk
        now = reading or containers.Reading(0, 0, past.cpu_seconds)
        estimate = past.cpu_seconds + now.cpus * (seconds - past.wall_seconds)
        self.usage = Usage(
            wall_seconds=seconds,
            cpu_seconds=max(past.cpu_seconds, estimate if now.cpu_seconds is None else now.cpu_seconds),
            peak_memory=max(past.peak_memory, now.memory, now.peak_memory),
            peak_processes=max(past.peak_processes, now.processes),
            disk=disk,
        )
        self.stop = self.stop or _exceeded(self.usage, self.spec.limits)

    async def close(self) -> None:
        """Ends the relays, and the output once the command has said all of it."""
        for relay in self.relays:
            relay.cancel()
        await asyncio.gather(*self.relays, return_exceptions=True)
        if self.attached is None or not self._captures:
            for fd in (fd for pipe in self.pipes for fd in pipe):
                os.close(fd)
            return
        try:
            await asyncio.wait_for(self.attached.wait(), _LAST_OUTPUT)
        except TimeoutError:
            self.attached.kill()
        with ExitStack() as stack:
            for capture in self._captures:
                stack.callback(capture.close)

    def finish(self) -> None:
        """Closes the record of a container that is gone, if it was started."""
        if self.record is None:
            return
        code, state = None, self.state
        if state is not None and not state.running:
            code = containers.exit_code(state.exit_code)
            if self.stop is None:
                self.stop = JobStop.MEMORY if state.out_of_memory and code else JobStop.EXIT
            if state.error:
                self.stop, self._problem = JobStop.INTERRUPTED, state.error
        elif self.stop is None:
            self.stop, self._problem = JobStop.INTERRUPTED, "the docker command ended before the container"
        usage = replace(self.usage, wall_seconds=self.seconds)
        problem = self._problem if self.stop == JobStop.INTERRUPTED else ""
        self.record = replace(self.record, stop=self.stop, exit_code=code, usage=usage, problem=problem)
        record.write(self.folder, self.record)


def _exceeded(usage: Usage, limits: JobLimits) -> JobStop | None:
    checks = {
        JobStop.WALL: usage.wall_seconds >= limits.wall_seconds,
        JobStop.CPU: usage.cpu_seconds > limits.cpu_seconds,
        JobStop.PROCESSES: usage.peak_processes > limits.processes,
        JobStop.DISK: usage.disk > limits.disk,
    }
    return next((stop for stop, reached in checks.items() if reached), None)
