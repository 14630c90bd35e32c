"""Jobs on this machine, each in a sandbox of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import astune
import autorl_bench
import tutorial
from astune.errors import SandboxError
from astune.tools import landlock, seccomp
from astune.tools.sandbox import ENVIRONMENT
from astune.tools.types import SandboxLevel, SandboxProbe
from autorl_bench.jobs import record
from autorl_bench.jobs.types import JobLimits, JobRecord, JobSpec, JobStop

_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from autorl_bench.jobs.keeper import main; sys.path.pop(0); sys.exit(main())"
)
_NAMESPACES = ("user", "pid", "net", "ipc", "uts", "mount")
_PROCESS_FEATURES = ("rlimits", "subreaper")
#: Ways out that a job on this machine tries before any other job is called confined.
_ESCAPES = """
import ctypes, os, socket, sys
secret, port = sys.argv[1], int(sys.argv[2])

def see_a_parent_outside():
    if os.getppid() == 1:
        raise PermissionError("the parent is the first process of a namespace")

def enter_a_namespace():
    if ctypes.CDLL(None).unshare(0x10000000) != 0:
        raise PermissionError("unshare failed")

attempts = {
    "a path that was not listed": lambda: os.stat(secret),
    "the machine's network": lambda: socket.create_connection(("127.0.0.1", port), timeout=5),
    "writing to the system": lambda: os.open("/usr", os.O_RDWR | os.O_TMPFILE),
    "a process outside": see_a_parent_outside,
    "a namespace": enter_a_namespace,
}
for name, attempt in attempts.items():
    try:
        attempt()
    except OSError:
        continue
    sys.exit(f"{name} was not stopped")
"""


def python_paths() -> tuple[Path, ...]:
    """What a job needs to read to run this Python with its packages, the library of this project among them."""
    packages = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *astune.__path__)
    paths = [Path(name).resolve() for name in (sys.prefix, sys.base_prefix, *packages)]
    return tuple(dict.fromkeys(path for path in paths if not path.is_relative_to("/usr")))


def library_paths() -> tuple[Path, ...]:
    """What a job may read of this project beside ``astune``: the client with what it imports, and the examples."""
    return tuple(Path(path).resolve() for package in (autorl_bench, tutorial) for path in package.__path__)


class LocalJobRunner:
    """Runs jobs on this machine, at the highest level of isolation that it offers.

    - ``kernel``: user, PID, mount, network, IPC and UTS namespaces, a root that holds only what the job's
      specification names, Landlock, a system call filter, no capabilities. Nothing outlives the job, and its only
      network is its endpoints.
    - ``process``: limits and measurements alone. Files and network are open to it; what detaches itself is found
      as a descendant of the keeper, but not if the keeper is killed and the process has removed its mark.

    The memory, process and disk limits of all processes together are enforced by sampling (every 50 ms; the disk four
    times a second): a job can pass them for that long. One process's memory and one file's size are hard limits.

    Args:
        at_most: ``process`` leaves the kernel's confinement out.
    """

    def __init__(self, at_most: SandboxLevel | str = SandboxLevel.KERNEL) -> None:
        self._at_most = SandboxLevel(at_most)
        self._lock = threading.Lock()
        self._probe: SandboxProbe | None = None

    def probe(self) -> SandboxProbe:
        """The level of jobs here, found once by a job that tries to get out."""
        with self._lock:
            if self._probe is None:
                self._probe = self._try_kernel()
            return self._probe

    def _try_kernel(self) -> SandboxProbe:
        reason = ""
        if sys.platform != "linux":
            raise SandboxError("jobs run on Linux only: elsewhere nothing ends a detached process")
        if self._at_most == SandboxLevel.PROCESS:
            reason = "kernel confinement was not asked for"
        elif not seccomp.supported():
            reason = "no system call table for this machine"
        else:
            reason = _try_escapes()
        if reason:
            return SandboxProbe(SandboxLevel.PROCESS, _PROCESS_FEATURES, reason)
        features = (f"landlock-{landlock.abi_version()}", "seccomp", "rlimits", "private root", *_NAMESPACES)
        return SandboxProbe(SandboxLevel.KERNEL, features, "every attempted escape was refused")

    async def run(self, spec: JobSpec, folder: Path) -> JobRecord:
        """Runs a job to its end; ``folder`` (new) gets ``record.json``, ``stdout.log`` and ``stderr.log``.

        Cancelling ends the job before it returns.

        Raises:
            SandboxError: the job could not be confined, or not as required. None of its code has run.
            ValueError: the job could see its own folder.
            FileExistsError: the folder holds another job.
        """
        with _starting():
            probe = await asyncio.to_thread(self.probe)
        if spec.require == SandboxLevel.KERNEL and probe.level != SandboxLevel.KERNEL:
            raise SandboxError(f"the job requires kernel confinement, and there is none here: {probe.reason}")
        payload = _prepare(spec, folder, probe)
        with _starting(), (folder / record.KEEPER_LOG).open("wb") as log:
            keeper = await asyncio.create_subprocess_exec(
                *_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, **_OPTIONS
            )
        try:
            said, _ = await keeper.communicate(payload)
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                keeper.terminate()
            await keeper.wait()
            if record.end(folder) is None:
                record.clean(folder)
            raise
        return _result(folder, said)

    def recover(self, folder: Path) -> JobRecord | None:
        """Ends what a dead supervisor left of the job in ``folder``; None where no code of a job has run.

        Raises:
            CheckpointError: the record is damaged, or something of the job does not end.
        """
        return record.end(folder)


_OPTIONS: dict[str, Any] = {"env": ENVIRONMENT, "cwd": "/", "start_new_session": True}


def _command() -> list[str]:
    return [sys.executable, "-s", "-P", "-c", _BOOT, str(Path(__file__).resolve().parents[2])]


def _prepare(spec: JobSpec, folder: Path, probe: SandboxProbe) -> bytes:
    """Makes the job's folder; returns the request to its keeper."""
    folder = record.make(folder, spec)
    kernel = probe.level == SandboxLevel.KERNEL
    temporary = "/tmp" if kernel else str(folder / record.TEMPORARY)  # noqa: S108  the job's own
    home = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": temporary, "TMPDIR": temporary}
    plan = {
        "command": spec.command,
        "environment": home | dict(spec.environment),
        "workspace": str(spec.workspace.resolve()),
        "view": {
            "readable": [str(path.resolve()) for path in spec.readable],
            "writable": [str(spec.workspace.resolve())],
            "temporary": str(folder / record.TEMPORARY),
            "shared_memory": spec.limits.memory // 4,
        },
        "scratch": str(folder / record.SCRATCH),
        "ports": [endpoint.port for endpoint in spec.endpoints],
        "limits": dataclasses.asdict(spec.limits),
        "kernel": kernel,
    }
    request = {
        "folder": str(folder),
        "plan": plan,
        "endpoints": [dataclasses.asdict(endpoint) for endpoint in spec.endpoints],
        "supervisor": os.getpid(),
        "features": probe.features,
    }
    return json.dumps(request).encode()


@contextmanager
def _starting() -> Iterator[None]:
    """A machine without room for one more process or thread is no fault of the job's."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise SandboxError(f"the job was not run, because its keeper could not be started: {error}") from error


def _result(folder: Path, said: bytes) -> JobRecord:
    result = record.end(folder)
    if result is None:
        reason = said.decode().strip() or record.keeper_said(folder) or "its keeper died"
        record.clean(folder)
        raise SandboxError(f"the job was not run, because it could not be confined: {reason}")
    return result


def _try_escapes() -> str:
    """Runs a job that tries to get out; why jobs here are not confined, or nothing."""
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as server:
        secret, workspace = Path(name, "secret"), Path(name, "workspace")
        workspace.mkdir()
        secret.write_text("not for jobs")
        port = str(server.getsockname()[1])
        python = str(Path(sys.executable))
        spec = JobSpec(
            (python, "-I", "-S", "-c", _ESCAPES, str(secret), port),
            workspace,
            readable=python_paths(),
            limits=JobLimits(wall_seconds=60),
        )
        folder = Path(name, "job")
        probe = SandboxProbe(SandboxLevel.KERNEL, (), "")
        payload = _prepare(spec, folder, probe)
        with (folder / record.KEEPER_LOG).open("wb") as log:
            done = subprocess.run(
                _command(), input=payload, stdout=subprocess.PIPE, stderr=log, check=False, **_OPTIONS
            )
        try:
            result = _result(folder, done.stdout)
        except SandboxError as error:
            return str(error)
        if result.stop != JobStop.EXIT or result.exit_code != 0:
            return (folder / record.STDERR).read_text(errors="replace").strip()[
                -500:
            ] or f"the probe ended: {result.stop}"
    return ""
