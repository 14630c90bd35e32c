"""How a job becomes a Docker container, and what the engine and the kernel say of one."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from astune.leftovers import MARK
from autorl_bench.jobs.local import library_paths, python_paths
from autorl_bench.jobs.types import JobSpec

#: Labels by which containers of this project are found: the mark of who started it, and the job's folder.
MARK_LABEL, FOLDER_LABEL = "astune.mark", "astune.job"
_FIRST, _SOCKETS, _TEMPORARY = "/run/autorl/first.py", "/run/autorl/sockets", "/tmp"  # noqa: S108  the container's own
#: Docker counts tasks, of which each of a job's processes may have so many threads; see inside.py.
_TASKS_A_PROCESS, _OWN_TASKS = 16, 80
_MAX_FILES = 65536
#: The container's own deadline is for when nobody is left to keep the job's.
_GRACE = 10
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


@dataclass(frozen=True, slots=True)
class Container:
    """What a container is made of beside its job: names, and folders of the machine's that it gets."""

    image: str
    name: str
    mark: str
    folder: Path
    user: str
    first: Path
    sockets: Path
    temporary: Path
    environment_file: Path
    cpus: float | None = None
    gpus: str | None = None


def create_arguments(spec: JobSpec, container: Container) -> list[str]:
    """The arguments of ``docker`` that make the container, without starting it.

    It has no network, no capabilities, no way to gain any, a root that it cannot write, and of the machine's files only
    the workspace (writable), a /tmp of its own and the paths of the job that are not this Python's: the image has one.
    Variables are in a file, because arguments are seen by every user.
    """
    limits = spec.limits
    processor = max(1, math.ceil(limits.cpu_seconds))
    options = {
        "--name": container.name,
        "--label": [f"{MARK_LABEL}={container.mark}", f"{FOLDER_LABEL}={container.folder}"],
        "--pull": "never",
        "--network": "none",
        "--hostname": "job",
        "--ipc": "private",
        "--cgroupns": "private",
        "--cap-drop": "ALL",
        "--security-opt": "no-new-privileges",
        "--user": container.user,
        "--workdir": str(spec.workspace),
        "--env-file": str(container.environment_file),
        "--memory": str(limits.memory),
        "--memory-swap": str(limits.memory),
        "--shm-size": str(max(2**20, limits.memory // 4)),
        "--pids-limit": str(_OWN_TASKS + _TASKS_A_PROCESS * limits.processes),
        "--ulimit": [
            "core=0",
            f"cpu={processor}",
            f"fsize={limits.disk}",
            f"nofile={_MAX_FILES}",
        ],
        "--oom-score-adj": "1000",
        "--log-driver": "none",
        "--mount": _mounts(spec, container),
        "--entrypoint": "python",
    }
    if container.cpus is not None:
        options["--cpus"] = f"{container.cpus:g}"
    if container.gpus is not None:
        options["--gpus"] = container.gpus
    words = ["create", "--read-only", "--no-healthcheck"]
    for name, value in options.items():
        for one in [value] if isinstance(value, str) else value:
            words += [name, one]
    return [*words, container.image, *_command(spec)]


def _command(spec: JobSpec) -> list[str]:
    ports = [word for endpoint in spec.endpoints for word in ("--port", str(endpoint.port))]
    programme, *arguments = spec.command
    programme = "python" if programme == sys.executable else programme
    seconds = f"{spec.limits.wall_seconds + _GRACE:g}"
    return ["-I", _FIRST, "--seconds", seconds, "--sockets", _SOCKETS, *ports, "--", programme, *arguments]


def _mounts(spec: JobSpec, container: Container) -> list[str]:
    own = {*python_paths(), *library_paths()}
    readable = {path.resolve(): str(path.resolve()) for path in spec.readable if path.resolve() not in own}
    readable |= {container.first: _FIRST, container.sockets: _SOCKETS}
    writable = {container.temporary: _TEMPORARY, spec.workspace: str(spec.workspace)}
    return [
        *(_mount(source, target, "readonly") for source, target in readable.items()),
        *(_mount(source, target) for source, target in writable.items()),
    ]


def _mount(source: Path, target: str, *more: str) -> str:
    """One line of CSV, as ``--mount`` reads it: a path may hold commas."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(["type=bind", f"source={source}", f"target={target}", *more])
    return text.getvalue()


def environment_lines(spec: JobSpec, mark: str) -> str:
    """The content of the file that ``--env-file`` reads.

    Raises:
        ValueError: a value with a line break, which such a file cannot hold.
    """
    variables: Mapping[str, str] = {
        "LANG": "C.UTF-8",
        "HOME": _TEMPORARY,
        "TMPDIR": _TEMPORARY,
        **spec.environment,
        MARK: mark,
    }
    for name, value in variables.items():
        if "\n" in value or "\r" in value:
            raise ValueError(f"the variable {name} of a job in a container cannot hold a line break")
    return "".join(f"{name}={value}\n" for name, value in variables.items())


@dataclass(frozen=True, slots=True)
class State:
    """What the engine says of a container. ``pid`` is that of its first process, 0 when it does not run."""

    running: bool
    pid: int
    exit_code: int
    out_of_memory: bool
    error: str


def parse_state(text: str) -> State:
    """Reads ``docker inspect --format '{{json .State}}'``. Raises ValueError for anything else."""
    try:
        state = json.loads(text)
        return State(
            bool(state["Running"]),
            int(state["Pid"]),
            int(state["ExitCode"]),
            bool(state["OOMKilled"]),
            str(state.get("Error", "")),
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"docker inspect said what is no state of a container: {text[:200]!r}") from error


def exit_code(status: int) -> int:
    """An exit status of a container in the form of subprocess: negative for a signal."""
    return 128 - status if 128 < status <= 192 else status


@dataclass(frozen=True, slots=True)
class Reading:
    """What a container uses now. ``cpu_seconds`` count from its start; where unknown, ``cpus`` are in use just now."""

    memory: int
    processes: int
    cpu_seconds: float | None = None
    cpus: float = 0.0
    peak_memory: int = 0


def parse_stats(text: str) -> Reading:
    """Reads one line of ``docker stats --no-stream --format '{{json .}}'``. Raises ValueError for anything else."""
    try:
        stats = json.loads(text)
        used = _bytes(stats["MemUsage"].partition("/")[0])
        return Reading(used, int(stats["PIDs"]), cpus=float(stats["CPUPerc"].rstrip("%")) / 100)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"docker stats said what is no usage of a container: {text[:200]!r}") from error


def _bytes(text: str) -> int:
    match = re.fullmatch(r"([0-9.]+)\s*([A-Za-z]+)", text.strip())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is no size")
    return int(float(match[1]) * _UNITS[match[2]])


def control_group(text: str, container_id: str, root: Path = Path("/sys/fs/cgroup")) -> Path | None:
    """The folder of a container's group from the /proc/PID/cgroup of its first process.

    None where there is no version 2 of them, or where the process is another: with an engine elsewhere, its ids are no
    ids of this machine.
    """
    for line in text.splitlines():
        if line.startswith("0::/") and container_id in line:
            return root / line.removeprefix("0::/")
    return None


def read_group(folder: Path) -> Reading:
    """What the kernel counts for a group. Raises OSError when it is gone."""
    counted = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
    memory = int((folder / "memory.current").read_text())
    peak = folder / "memory.peak"
    return Reading(
        memory,
        # The first process is ours.
        max(0, len((folder / "cgroup.procs").read_text().split()) - 1),
        cpu_seconds=int(counted["usage_usec"]) / 1e6,
        peak_memory=int(peak.read_text()) if peak.exists() else memory,
    )


def explain(command: Sequence[str], said: str) -> str:
    """What to do about a command that the engine refused."""
    said = said.strip()[-500:]
    if "Cannot connect to the Docker daemon" in said or "permission denied" in said.lower():
        return f"no Docker engine answers ({said}): start one or let this user use it, or run jobs with `local`"
    if "No such image" in said or "not found" in said or "Unable to find image" in said:
        return f"{said}: build the image with `docker build -f env/training/Dockerfile -t astune-training .`"
    return f"docker {command[0]} failed: {said}"
