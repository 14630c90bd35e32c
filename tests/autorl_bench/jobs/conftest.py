"""Runs small Python programmes as jobs."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from autorl_bench.jobs import JobLimits, JobRecord, JobSpec, LocalJobRunner, python_paths

ROOM = JobLimits(wall_seconds=60, cpu_seconds=60, memory=512 * 2**20, processes=16, disk=32 * 2**20, output=10_000)


@pytest.fixture(scope="session")
def kernel_runner() -> LocalJobRunner:
    runner = LocalJobRunner()
    if runner.probe().level != "kernel":
        pytest.skip(f"no kernel confinement here: {runner.probe().reason}")
    return runner


@pytest.fixture(scope="session")
def process_runner() -> LocalJobRunner:
    return LocalJobRunner(at_most="process")


@pytest.fixture(params=["kernel", pytest.param("process", marks=pytest.mark.slow)])
def runner(request: pytest.FixtureRequest) -> LocalJobRunner:
    return request.getfixturevalue(f"{request.param}_runner")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a test's job works and leaves its record."""

    workspace: Path
    folder: Path

    def spec(self, script: str, *arguments: str, **changes: object) -> JobSpec:
        limits = dataclasses.replace(ROOM, **changes.pop("limits", {}))
        command = (sys.executable, "-I", "-S", "-c", textwrap.dedent(script), *arguments)
        readable = (*python_paths(), *changes.pop("readable", ()))
        return JobSpec(command, self.workspace, readable=readable, limits=limits, **changes)

    async def run(self, runner: LocalJobRunner, script: str, *arguments: str, **changes: object) -> JobRecord:
        return await runner.run(self.spec(script, *arguments, **changes), self.folder)

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout.log").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr.log").read_text()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "workspace").mkdir()
    return Place(tmp_path / "workspace", tmp_path / "job")


@pytest.fixture
def nonce(tmp_path: Path) -> str:
    """A word on the command line of this test's processes, by which they are found from outside."""
    return f"job-of-{os.getpid()}-{abs(hash(tmp_path))}"


def alive(nonce: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if nonce in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


@pytest.fixture
def nothing_left(nonce: str):
    """Whatever the test shows, it leaves no process behind."""
    yield
    for process in alive(nonce):
        process.send_signal(signal.SIGKILL)
