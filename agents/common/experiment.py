"""Runs a training script under limits of time, memory, disk and output, and says how it ended."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM
from typing import Any, Literal

from agents.common.launch import Launcher, Process, Start, end_group, wait_until_ended
from agents.common.task import Task

#: ``early``: the watch gave a reason. ``disk`` and ``output``: it wrote too much.
Stop = Literal["exit", "time", "early", "disk", "output"]
_POLL_SECONDS = 0.1
_LOOK_SECONDS = 1.0
_TAIL = 4000
#: A script is told that it has so much less than its limit, to leave a model on a machine that is busy, too.
SPARE_SECONDS = 4.0
#: Of the benchmark's variables a script gets those of its own contract, and never the token.
_PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH", "ASTUNE_RUN")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one script may use.

    Attributes:
        seconds: until it is asked to end (SIGTERM).
        grace: more seconds until it is killed.
        memory: bytes of one process of it.
        disk: bytes that the folder under watch may hold.
        output: bytes that it may print.
    """

    seconds: float
    grace: float = 4.0
    memory: int | None = None
    disk: int | None = None
    output: int = 2**20


@dataclass(frozen=True, slots=True)
class Ended:
    """How a script ended.

    Attributes:
        stop: why; ``exit`` by itself.
        exit_code: negative for a signal.
        seconds: it ran.
        log: the end of what it printed.
        report: what it wrote to its report file; empty where it wrote none.
        why: the watch's reason for ending it early.
    """

    stop: Stop
    exit_code: int
    seconds: float
    log: str
    report: Mapping[str, Any] = field(default_factory=dict)
    why: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the script did what it was to do, or was stopped in time to leave something whole."""
        return self.exit_code == 0


def script_environment(
    task: Task, output: Path, seconds: float, *, start_model: Path | None = None, **more: str
) -> dict[str, str]:
    """The whole environment of a training script: the contract of ``code/train.py``, and no token.

    Args:
        task: the run.
        output: folder that the script writes its model to.
        seconds: after which it is asked to end; it is told somewhat less.
        start_model: the best model so far, for scripts that go on from it.
        more: further variables.
    """
    own = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return own | {
        "AUTORL_BASE_MODEL": str(task.base_model),
        "AUTORL_START_MODEL": str(start_model or task.base_model),
        "AUTORL_TRAIN_DATA": str(task.train_data),
        "AUTORL_OUTPUT": str(output),
        "AUTORL_SEED": str(task.seed),
        "AUTORL_SECONDS_LEFT": f"{max(1.0, seconds - SPARE_SECONDS):.1f}",
        "AUTORL_THREADS": str(task.budget.threads),
        "OMP_NUM_THREADS": str(task.budget.threads),
        # As the trainer's own command sets it: threads that spin without end take the cores from each other.
        "GOMP_SPINCOUNT": "20000",
        **more,
    }


def run_script(
    launcher: Launcher,
    start: Start,
    limits: Limits,
    *,
    report: Path | None = None,
    watch: Callable[[], str | None] = lambda: None,
    disk_of: Path | None = None,
) -> Ended:
    """Runs a script to its end.

    Args:
        launcher: starts it.
        start: what to start.
        limits: at ``seconds`` it is asked to end (SIGTERM), after ``grace`` it is killed.
        report: JSON file that it may write.
        watch: is asked every second for a reason to end it early.
        disk_of: folder that may grow to ``limits.disk``.
    """
    begun = time.monotonic()
    start.stdout.parent.mkdir(parents=True, exist_ok=True)
    process = launcher.start(start)
    if limits.memory is not None:
        with suppress(OSError):  # it has ended already
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (limits.memory, limits.memory))
    stop, why = _supervise(process, start, limits, begun, watch, disk_of)
    if stop != "exit":
        end_group(process.pid, SIGTERM)
        wait_until_ended(process, limits.grace)
    end_group(process.pid)
    wait_until_ended(process, 10.0)
    code = process.poll()
    seconds = time.monotonic() - begun
    return Ended(stop, -9 if code is None else code, seconds, tail(start.stdout), _read(report), why)


def _supervise(
    process: Process,
    start: Start,
    limits: Limits,
    begun: float,
    watch: Callable[[], str | None],
    disk_of: Path | None,
) -> tuple[Stop, str | None]:
    """Waits until the script ends or has to; why, and the watch's reason."""
    look_at = begun + _LOOK_SECONDS
    while process.poll() is None:
        now = time.monotonic()
        if now - begun > limits.seconds:
            return "time", None
        if now >= look_at:
            look_at = now + _LOOK_SECONDS
            if start.stdout.is_file() and start.stdout.stat().st_size > limits.output:
                return "output", None
            if disk_of is not None and limits.disk is not None and folder_size(disk_of) > limits.disk:
                return "disk", None
            if (why := watch()) is not None:
                return "early", why
        time.sleep(_POLL_SECONDS)
    return "exit", None


def tail(path: Path, characters: int = _TAIL) -> str:
    """The end of a text file; empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 4 * characters))
        return stream.read().decode(errors="replace")[-characters:]


def folder_size(folder: Path) -> int:
    """Bytes that the files of a folder take."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # gone in the meantime
                total += os.lstat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH118
    return total


def _read(report: Path | None) -> dict[str, Any]:
    if report is None or not report.is_file():
        return {}
    with suppress(ValueError, OSError):
        found = json.loads(report.read_text())
        if isinstance(found, dict):
            return found
    return {}
