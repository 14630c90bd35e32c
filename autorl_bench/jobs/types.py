"""What a job is, what it may use, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Protocol

from astune.leftovers import MARK
from astune.tools.types import SandboxLevel, SandboxProbe
from autorl_bench.metering import Usage


class JobStop(StrEnum):
    """Why a job ended: by itself, at one of its limits, or because somebody ended it.

    ``interrupted``: whoever watched over the job was gone; what it did is no result.
    """

    EXIT = "exit"
    WALL = "wall"
    CPU = "cpu"
    MEMORY = "memory"
    PROCESSES = "processes"
    DISK = "disk"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class JobLimits:
    """The budget of one job, all its processes together. Seconds and bytes.

    ``memory`` is what its processes hold in RAM (shared pages once); no single one may reserve more than it.
    ``disk`` is what its writable folders grow by, deleted files that are still open included; no single
    file may be larger. ``output`` is what is kept of each of stdout and stderr; more is dropped from the middle.

    Raises:
        ValueError: a limit that is not positive and finite.
    """

    wall_seconds: float = 600.0
    cpu_seconds: float = 3600.0
    memory: int = 8 * 2**30
    processes: int = 64
    disk: int = 4 * 2**30
    output: int = 4 * 2**20

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not 0 < value < inf:
                raise ValueError(f"job limit {one.name} must be positive and finite, not {value}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TCP service that a job may reach: for the job it listens at 127.0.0.1, on the same port."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError(f"a port lies in 1..65535, not {self.port}")


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job. Paths are absolute; the job sees exactly those named here, the system's programmes and Python.

    Attributes:
        command: Programme (absolute, or a name on the PATH ``/usr/bin:/bin``) and arguments; no shell in between.
        workspace: Its working directory, writable.
        readable: What it may read beyond the system: base model, train data, packages.
        environment: Its whole environment but for PATH, HOME, TMPDIR, LANG and the mark of the project.
        hidden: What it must not see (vault, store): a readable or writable path that contains one is refused.
        endpoints: Services that it may reach; none is no network at all.
        limits: Its budget.
        require: ``kernel`` refuses to run the job at a lower level.

    Raises:
        ValueError: a relative path, an empty command, an environment that sets the mark, or a hidden path in sight.
    """

    command: tuple[str, ...]
    workspace: Path
    readable: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[Path, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    limits: JobLimits = field(default_factory=JobLimits)
    require: SandboxLevel | None = None

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("a job needs a command")
        if MARK in self.environment:
            raise ValueError(f"the environment of a job cannot set {MARK}: it marks whose process a process is")
        for path in (self.workspace, *self.readable, *self.hidden):
            if not path.is_absolute():
                raise ValueError(f"a job's paths must be absolute, and {path} is not")
        if len({endpoint.port for endpoint in self.endpoints}) < len(self.endpoints):
            raise ValueError("two endpoints of a job have the same port")
        self.check_hidden(self.hidden)

    def check_hidden(self, hidden: tuple[Path, ...]) -> None:
        """Raises ValueError when the job would see one of the paths, or what contains it, or what it contains."""
        for secret in (path.resolve() for path in hidden):
            for shown in (self.workspace.resolve(), *(path.resolve() for path in self.readable)):
                if secret.is_relative_to(shown) or shown.is_relative_to(secret):
                    raise ValueError(f"{secret} is to be hidden, and the job could see it through {shown}")


@dataclass(frozen=True, slots=True)
class Process:
    """A process by its id and its birth (start time since boot): an id alone may have been given to another."""

    pid: int
    birth: str


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job on disk. ``stop`` is None while it runs; ``exit_code`` is negative for a signal, as in subprocess.

    ``problem`` says why nobody could watch over an interrupted job to its end.

    ``supervisor`` started the job, ``keeper`` watches over it, ``first`` is its first process: all of the job dies
    with it at the kernel level. ``mark`` is the value of the project's variable in the job's environment.
    """

    level: SandboxLevel
    features: tuple[str, ...]
    supervisor: Process
    keeper: Process
    first: Process
    mark: str
    stop: JobStop | None = None
    exit_code: int | None = None
    usage: Usage = field(default_factory=Usage)
    problem: str = ""


class JobRunner(Protocol):
    """Where jobs run: this machine (``LocalJobRunner``), a container, a cluster."""

    def probe(self) -> SandboxProbe:
        """The level of isolation on offer, what it consists of, and why it is not higher."""
        ...

    async def run(self, spec: JobSpec, folder: Path) -> JobRecord:
        """Runs a job to its end; record and output are in ``folder``. Cancelling ends the job.

        Raises:
            SandboxError: the job could not be started, or not confined as required. None of its code has run.
        """
        ...

    def recover(self, folder: Path) -> JobRecord | None:
        """Ends what a dead supervisor left of the job in ``folder``; its record then has a ``stop``."""
        ...
