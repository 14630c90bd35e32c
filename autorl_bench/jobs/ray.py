"""Jobs on the nodes of a Ray cluster, each confined there as on a machine of its own."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import platform
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from astune.errors import SandboxError
from astune.files import atomic_write
from astune.leftovers import own_mark
from astune.tools.types import SandboxLevel, SandboxProbe
from autorl_bench.jobs import record
from autorl_bench.jobs.local import LocalJobRunner
from autorl_bench.jobs.types import JobRecord, JobSpec, JobStop

#: Beside the record: on which node the job was started.
NODE = "node.json"
_TICK = 0.2
_CONNECT_SECONDS = 10.0
_END_SECONDS = 60.0
_PROBE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster: Ray's id of it, its name, and what tells it from all others, restarts included."""

    id: str
    name: str
    machine: str


class RayJobRunner:
    """Runs each job as a Ray task, by a :class:`~autorl_bench.jobs.local.LocalJobRunner` on the node that takes it.

    Isolation and limits are those of that runner on that node. All nodes must see the same files at the same paths: the
    job's folder, its workspace, what it may read, and this Python. That is checked on the node before the job starts.

    Args:
        address: Of the cluster, as ``ray.init`` takes it; a cluster on this machine is started unless given.
        cpus: What a job claims of a node, by which Ray decides where there is room; no limit on the job itself.
        gpus: The same for GPUs.
        at_most: See :class:`~autorl_bench.jobs.local.LocalJobRunner`.
        init: Further arguments of ``ray.init``.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        cpus: float = 1,
        gpus: float = 0,
        at_most: SandboxLevel | str = SandboxLevel.KERNEL,
        init: dict[str, Any] | None = None,
    ) -> None:
        self._address, self._cpus, self._gpus = address, cpus, gpus
        self._at_most = SandboxLevel(at_most)
        self._init = init or {}
        self._lock = threading.Lock()
        self._probe: SandboxProbe | None = None
        self._connection: _Connection | None = None

    def _ray(self) -> Any:
        """Ray, connected to the cluster. Raises SandboxError."""
        with self._lock:
            ray = _import_ray()
            if not ray.is_initialized():
                _check_address(self._address)
                connection = _Connection(ray, self._address, self._init)
                connection.start()
                connection.tried.wait()
                if connection.error is not None:
                    where = f"at {self._address}" if self._address else "on this machine"
                    error = connection.error
                    raise SandboxError(f"there is no Ray cluster {where}: {error}") from error
                self._connection = connection
            return ray

    def close(self) -> None:
        """Leaves the cluster; one that was started by this runner ends."""
        if self._connection is not None:
            self._connection.closed.set()
            self._connection.join()
            self._connection = None

    def probe(self) -> SandboxProbe:
        """The level of isolation on a node of the cluster; a job's record tells that of its own.

        Raises:
            SandboxError: Ray is not installed, or there is no cluster, or no node with room for a job.
        """
        ray = self._ray()
        if self._probe is None:
            ref = self._task(ray, _probe_here).remote(self._at_most)
            try:
                found, node = ray.get(ref, timeout=_PROBE_SECONDS)
            except ray.exceptions.RayError as error:
                ray.cancel(ref, force=True)
                raise SandboxError(f"no node of the Ray cluster tells how jobs are isolated there: {error}") from error
            self._probe = replace(found, features=(f"ray-{ray.__version__}", *found.features), reason=node.name)
        return self._probe

    def _task(self, ray: Any, function: Any, **options: Any) -> Any:
        needed = {"CPU": self._cpus, "GPU": self._gpus}
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0) >= amount for name, amount in needed.items()) for node in alive):
            raise SandboxError(f"no node of the Ray cluster has {self._cpus:g} CPUs and {self._gpus:g} GPUs for a job")
        return ray.remote(function).options(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0, **options)

    async def run(self, spec: JobSpec, folder: Path) -> JobRecord:
        """Runs a job to its end, as :class:`~autorl_bench.jobs.types.JobRunner` says.

        Raises:
            SandboxError: no Ray, no cluster, no room, files that the node does not see, or no confinement there.
            ValueError: the job could see its own folder.
            FileExistsError: the folder holds another job.
        """
        ray = await asyncio.to_thread(self._ray)
        folder = await asyncio.to_thread(record.make, folder, spec)
        nonce = secrets.token_hex(16)
        witness = folder / f"shared-{nonce}"
        witness.write_text(nonce)
        try:
            ref = self._task(ray, _run_here, name=f"job {folder.name}").remote(spec, folder, nonce, self._at_most)
            return await self._result(ray, ref, folder)
        finally:
            witness.unlink(missing_ok=True)

    async def _result(self, ray: Any, ref: Any, folder: Path) -> JobRecord:
        try:
            done: JobRecord = await asyncio.wrap_future(ref.future())
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.to_thread(self._cancel, ray, ref, folder))
            raise
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:  # the node or its worker died
            found = await asyncio.to_thread(self._recover_dead, folder)
            if found is None:
                raise SandboxError(f"the job was not run: {error}") from error
            return found
        return done

    def _recover_dead(self, folder: Path) -> JobRecord | None:
        """Recovers a job whose worker Ray says is dead, which may be before the system has cleared it away."""
        deadline = time.monotonic() + _END_SECONDS
        while (found := self.recover(folder)) is not None and found.stop is None and time.monotonic() < deadline:
            time.sleep(_TICK)
        return found

    def _cancel(self, ray: Any, ref: Any, folder: Path) -> None:
        """Ends the task, which ends the job first; one that does not is killed, and its job by its keeper then."""
        ray.cancel(ref)
        if not ray.wait([ref], timeout=_END_SECONDS)[0]:
            ray.cancel(ref, force=True)
        self.recover(folder)

    def recover(self, folder: Path) -> JobRecord | None:
        """Ends what a dead supervisor left of the job in ``folder``, on its node; None where no code of a job has run.

        Raises:
            SandboxError: the node is part of no cluster that can be reached.
            CheckpointError: the record is damaged, or something of the job does not end.
        """
        folder = folder.resolve()
        found = record.read(folder)
        if found is None or found.stop is not None:
            record.clean(folder)
            return found
        node = _node_of(folder)
        if node is None or node.machine == _machine():
            return LocalJobRunner(self._at_most).recover(folder)
        ray = self._ray()
        alive = {one["NodeID"] for one in ray.nodes() if one["Alive"]}
        if node.id not in alive:  # its workers ended with it, and their jobs with those
            found = replace(found, stop=JobStop.INTERRUPTED, problem=f"its node {node.name} left the cluster")
            record.write(folder, found)
            return found
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)
        task = ray.remote(_recover_here).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy)
        try:
            recovered: JobRecord | None = ray.get(task.remote(folder, self._at_most), timeout=_PROBE_SECONDS)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise SandboxError(f"the job in {folder} could not be ended on node {node.name}: {error}") from error
        return recovered


class _Connection(threading.Thread):
    """Connects to a cluster and stays: the processes of one that it starts end with the thread that started them."""

    def __init__(self, ray: Any, address: str | None, options: dict[str, Any]) -> None:
        super().__init__(name="ray", daemon=True)
        self._ray, self._address = ray, address
        self._options = {"log_to_driver": False, "logging_level": logging.ERROR, **options}
        if address is None:
            self._options = {"include_dashboard": False, **self._options}
        self.tried, self.closed = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        """Ray's part of the thread's life."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            self._ray.init(address=self._address, **self._options)
        except Exception as error:  # Ray raises what it likes here
            self.error = error
            return
        finally:
            self.tried.set()
        self.closed.wait()
        self._ray.shutdown()


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise SandboxError('Ray is not installed: install the extra, pip install "astune[ray]"') from error


def _check_address(address: str | None) -> None:
    """Ray itself takes minutes to give up. Raises SandboxError."""
    host, _, port = (address or "").rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return  # on this machine, or another form of address
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise SandboxError(f"there is no Ray cluster at {address}: {error.strerror or error}") from error


def _machine() -> str:
    """Names this machine since it was started, and the namespace in which its process ids count."""
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{own_mark().rpartition(':')[2]}"


def _node_of(folder: Path) -> Node | None:
    """Where a job was started; None where nobody noted it."""
    with suppress(OSError, ValueError, TypeError):
        return Node(**json.loads((folder / NODE).read_text()))
    return None


# --- on the node ------------------------------------------------------------------------------------------------------


def _here() -> Node:
    ray = _import_ray()
    return Node(ray.get_runtime_context().get_node_id(), platform.node(), _machine())


def _probe_here(at_most: SandboxLevel) -> tuple[SandboxProbe, Node]:
    return LocalJobRunner(at_most).probe(), _here()


def _recover_here(folder: Path, at_most: SandboxLevel) -> JobRecord | None:
    return LocalJobRunner(at_most).recover(folder)


def _run_here(spec: JobSpec, folder: Path, nonce: str, at_most: SandboxLevel) -> JobRecord:
    node = _here()
    _check_shared(spec, folder, nonce, node)
    note = {"id": node.id, "name": node.name, "machine": node.machine}
    atomic_write(folder / NODE, json.dumps(note))
    return asyncio.run(_run(spec, folder, at_most))


async def _run(spec: JobSpec, folder: Path, at_most: SandboxLevel) -> JobRecord:
    """Ray cancels by an interrupt, which the loop sees when it wakes: every so often, then."""
    job = asyncio.ensure_future(LocalJobRunner(at_most).run(spec, folder))
    try:
        while not job.done():
            await asyncio.wait([job], timeout=_TICK)
    except asyncio.CancelledError:
        job.cancel()
        await asyncio.wait([job])
        raise
    return job.result()


def _check_shared(spec: JobSpec, folder: Path, nonce: str, node: Node) -> None:
    """Raises SandboxError where this node does not see what the job needs."""
    with suppress(OSError):
        if (folder / f"shared-{nonce}").read_text() == nonce:
            programme = Path(spec.command[0])
            needed = (spec.workspace, *spec.readable, *([programme] if programme.is_absolute() else []))
            if not (missing := [str(path) for path in needed if not path.exists()]):
                return
            raise SandboxError(f"node {node.name} of the Ray cluster does not see {', '.join(missing[:3])}")
    raise SandboxError(f"node {node.name} of the Ray cluster does not see {folder}: its nodes must share that folder")
