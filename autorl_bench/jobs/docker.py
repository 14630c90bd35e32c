"""Jobs in Docker containers, by the engine's own command."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from astune.errors import SandboxError
from astune.leftovers import own_mark
from astune.tools.types import SandboxLevel, SandboxProbe
from autorl_bench.jobs import container as containers
from autorl_bench.jobs import record
from autorl_bench.jobs.container_job import ContainerJob
from autorl_bench.jobs.streams import Relay
from autorl_bench.jobs.types import JobRecord, JobSpec, JobStop

_PACKAGE = Path(__file__).resolve().parents[1]
#: In a checkout, and in an installed package.
_FIRST = (_PACKAGE.parent / "env" / "first.py", _PACKAGE / "env" / "first.py")
_INTERVAL = 0.5
_COMMAND_SECONDS = 60.0
_FEATURES = ("container", "no network", "no capabilities", "no new privileges", "read-only root", "cgroup limits")


class DockerJobRunner:
    """Runs each job in a container of its own, made by the ``docker`` command of this machine.

    The container sees the workspace, what the job may read, and the image's own Python: ``python`` of the image stands
    for this interpreter, and its packages for this one's. It has no network. Services that the job may reach are
    relayed over sockets in a folder that the container gets, one for each port: with the machine's network (``--network
    host``) it would reach every port of the machine, and with a bridge whatever the bridge leads to.

    Memory, tasks and one file's size are hard limits; time, processor time, processes and disk are looked at twice a
    second. Where the engine runs on another machine, so that the kernel's counters cannot be read here, what ``docker
    stats`` says stands in for them, and processor time is estimated. Paths must then be the same on both.

    When whoever called ``run`` dies, the container ends at its deadline; ``recover`` ends it at once.

    Args:
        image: Made from ``env/training/Dockerfile`` or ``env/eval/Dockerfile``. Never fetched.
        cpus: How many processors a job may use at once; all unless given.
        gpus: Those that a job gets, as ``docker run --gpus`` takes it (``all``); none unless given.
        user: ``uid:gid`` in the container; this process's own unless given. It must be able to write the workspace.
        docker: The command; also one that stands for it, as ``podman``.
    """

    def __init__(
        self,
        image: str = "astune-training",
        *,
        cpus: float | None = None,
        gpus: str | None = None,
        user: str | None = None,
        docker: str = "docker",
    ) -> None:
        self._image, self._cpus, self._gpus, self._docker = image, cpus, gpus, docker
        self._user = user or f"{os.getuid()}:{os.getgid()}"

    def probe(self) -> SandboxProbe:
        """That an engine answers, and which.

        Raises:
            SandboxError: none does; the message says what to do.
        """
        version = self._call("version", "--format", "{{.Server.Version}}").strip()
        return SandboxProbe(SandboxLevel.KERNEL, (f"docker-{version}", *_FEATURES), "an engine answers")

    async def run(self, spec: JobSpec, folder: Path) -> JobRecord:
        """Runs a job to its end, as :class:`~autorl_bench.jobs.types.JobRunner` says.

        Raises:
            SandboxError: no engine, no image, or a container that could not be started. None of its code has run.
            ValueError: the job could see its own folder, or a variable that no container can be given.
            FileExistsError: the folder holds another job.
        """
        probe = await asyncio.to_thread(self.probe)
        folder = record.make(folder, spec)
        try:
            with self._parts(spec, folder) as container:
                identity = (await self._acall(*containers.create_arguments(spec, container))).strip()
                job = ContainerJob(spec, folder, container, identity)
                return await self._watch(job, probe)
        finally:
            record.clean(folder)

    async def _watch(self, job: ContainerJob, probe: SandboxProbe) -> JobRecord:
        try:
            job.relays += _relays(job.spec, job.container)
            await self._start(job, probe)
            await self._until_stop(job)
            job.state = containers.parse_state(await self._acall(*_inspect(job.container.name)))
        except asyncio.CancelledError:
            job.stop = JobStop.CANCELLED
            raise
        finally:
            await asyncio.shield(self._end(job))
        assert job.record is not None
        return job.record

    async def _start(self, job: ContainerJob, probe: SandboxProbe) -> None:
        attached = await asyncio.create_subprocess_exec(
            *(self._docker, "start", "--attach", job.container.name),
            stdin=subprocess.DEVNULL,
            stdout=job.pipes[0][1],
            stderr=job.pipes[1][1],
            start_new_session=True,  # Ctrl-C is the supervisor's to handle
        )
        job.attached = attached
        job.keep_output()
        me = record.this_process(os.getpid())
        client = record.this_process(attached.pid)
        job.record = JobRecord(probe.level, probe.features, me, me, client, job.container.mark)
        record.write(job.folder, job.record)

    async def _until_stop(self, job: ContainerJob) -> None:
        assert job.attached is not None
        ended = asyncio.ensure_future(job.attached.wait())
        while job.stop is None:
            rest = job.spec.limits.wall_seconds - job.seconds
            await asyncio.wait([ended], timeout=max(0.0, min(_INTERVAL, rest)))
            if ended.done():
                return
            job.measure(await asyncio.to_thread(self._reading, job))

    def _reading(self, job: ContainerJob) -> containers.Reading | None:
        """What the container uses now; None when it has ended meanwhile."""
        with suppress(OSError, SandboxError, ValueError):
            if not job.looked:
                job.looked = True
                state = containers.parse_state(self._call(*_inspect(job.container.name)))
                job.group = containers.control_group(Path(f"/proc/{state.pid}/cgroup").read_text(), job.identity)
            if job.group is not None and job.group.is_dir():
                return containers.read_group(job.group)
            return containers.parse_stats(
                self._call("stats", "--no-stream", "--format", "{{json .}}", job.container.name)
            )
        return None

    async def _end(self, job: ContainerJob) -> None:
        """Kills and removes the container, closes what was open for it, and writes the record of what was started.

        Raises:
            SandboxError: the engine does not answer; the record stays open, for ``recover``.
        """
        try:
            with suppress(_NoSuchContainer):
                await self._acall("rm", "--force", "--volumes", job.container.name)
        finally:
            await job.close()
        job.finish()

    def recover(self, folder: Path) -> JobRecord | None:
        """Ends what a dead supervisor left of the job in ``folder``; None where no code of a job has run.

        Raises:
            SandboxError: no engine answers, so that nobody knows what still runs.
            CheckpointError: the record is damaged.
        """
        folder = folder.resolve()
        found = record.read(folder)
        if found is not None and (found.stop is not None or record.is_alive(found.supervisor)):
            return found
        with suppress(_NoSuchContainer):  # also one that was made and never started
            self._call("rm", "--force", "--volumes", _name(folder))
        record.clean(folder)
        if found is not None:
            found = replace(found, stop=JobStop.INTERRUPTED, problem="the process that had started it died")
            record.write(folder, found)
        return found

    @contextmanager
    def _parts(self, spec: JobSpec, folder: Path) -> Iterator[containers.Container]:
        """Everything that the container is made from; a short path for the sockets, whose names are bounded."""
        mark = own_mark()
        with tempfile.TemporaryDirectory(prefix="autorl-") as name:
            sockets, variables = Path(name, "sockets"), Path(name, "environment")
            sockets.mkdir()
            variables.touch(mode=0o600)
            variables.write_text(containers.environment_lines(spec, mark))
            yield containers.Container(
                image=self._image,
                name=_name(folder),
                mark=mark,
                folder=folder,
                user=self._user,
                first=_first(),
                sockets=sockets,
                temporary=folder / record.TEMPORARY,
                environment_file=variables,
                cpus=self._cpus,
                gpus=self._gpus,
            )

    def _call(self, *arguments: str) -> str:
        """Runs ``docker`` with arguments and returns what it said. Raises SandboxError."""
        if shutil.which(self._docker) is None:
            raise SandboxError(f"there is no command {self._docker!r} here: install Docker, or run jobs with `local`")
        try:
            done = subprocess.run(
                [self._docker, *arguments], capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SandboxError(f"docker {arguments[0]} gave no answer: {error}") from error
        if done.returncode != 0:
            kind = _NoSuchContainer if "No such container" in done.stderr else SandboxError
            raise kind(containers.explain(arguments, done.stderr or done.stdout))
        return done.stdout

    async def _acall(self, *arguments: str) -> str:
        return await asyncio.to_thread(self._call, *arguments)


class _NoSuchContainer(SandboxError):
    """The engine knows no container of this name."""


def _relays(spec: JobSpec, container: containers.Container) -> list[asyncio.Task[None]]:
    """One socket for each endpoint, which only this user can reach beside the container."""
    relays = []
    for endpoint in spec.endpoints:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(container.sockets / str(endpoint.port)))
        listener.listen(128)
        Path(listener.getsockname()).chmod(0o666)  # the folder above it is closed to others
        relays.append(asyncio.create_task(Relay(listener, endpoint).serve()))
    return relays


def _inspect(name: str) -> tuple[str, ...]:
    return ("inspect", "--format", "{{json .State}}", name)


def _name(folder: Path) -> str:
    """A container's name, found again from the job's folder alone."""
    return f"autorl-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:24]}"


def _first() -> Path:
    for path in _FIRST:
        if path.is_file():
            return path
    raise SandboxError(f"{_FIRST[0]} is missing, and no container can be started without it: install the project anew")
