"""Limits of one sandboxed call, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from math import inf


class SandboxStop(StrEnum):
    """Why a sandboxed call ended."""

    EXIT = "exit"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Limits of one call. Sizes in bytes, times in seconds.

    ``memory`` is address space beyond what the warm interpreter holds; ``cpu_seconds`` is rounded up to whole
    seconds; ``output`` counts each stream; ``processes`` must be 1 (threads are free). Raises ValueError for a
    limit that is not positive and finite.
    """

    seconds: float = 10.0
    cpu_seconds: float = 10.0
    memory: int = 512 * 2**20
    processes: int = 1
    file_size: int = 8 * 2**20
    output: int = 64 * 2**10

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < inf:
                raise ValueError(f"limit {field.name} must be positive and finite, not {value}")


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """What one call printed and how it ended. ``returncode`` is negative for a signal, as in subprocess."""

    stdout: str
    stderr: str
    returncode: int
    stop_reason: SandboxStop
    seconds: float


class SandboxLevel(StrEnum):
    """What holds the code: the kernel (Landlock, seccomp, limits), or resource limits alone."""

    KERNEL = "kernel"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class SandboxProbe:
    """The level that a machine offers, what it consists of, and why it is not higher."""

    level: SandboxLevel
    features: tuple[str, ...]
    reason: str
