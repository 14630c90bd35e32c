"""One agent's run, from its workspace to its end: started, started again when it was killed, then submitted."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from astune.errors import UserError
from astune.files import atomic_write, storage_errors
from autorl_bench.agents import Agent
from autorl_bench.bench import Bench
from autorl_bench.jobs import Endpoint, JobLimits, JobRecord, JobRunner, JobSpec, JobStop, library_paths, python_paths
from autorl_bench.operate.task_text import task_text
from autorl_bench.scenarios import Scenario
from autorl_bench.store import RunState
from autorl_bench.store.records import Run, Usage
from autorl_bench.types import Reason

#: An agent is not started with less time than this, in seconds.
LEAST_SECONDS = 5.0
_POLL = 0.2

Say = Callable[[str], None]


@dataclass(frozen=True)
class AgentJob:
    """How agents are run: the benchmark, the server that they talk to, and where their processes run."""

    bench: Bench
    server: str
    runner: JobRunner
    operator: Mapping[str, str]
    say: Say = print

    async def run(self, run: Run, token: str, agent: Agent) -> Run:
        """Runs an agent to the end of its run; the run as it ended.

        Cancelling ends the agent's processes; the run can then be resumed.

        Raises:
            SandboxError: the agent could not be confined.
            ConfigError: an address that the agent declares is none.
        """
        scenario = self.bench.scenario_of(run)
        atomic_write(self.bench.home.workspace(run.id) / "README.md", task_text(run, scenario))
        while await self._attempt(run, token, agent, scenario):
            with self.bench.store.write() as tx:
                token = tx.runs.renew_token(run.id)
            self.say(f"{run.id}: the agent was killed and is started again with what is left of its budget")
        await asyncio.to_thread(self.bench.finish, run.id)
        return await self.wait_for_end(run)

    async def _attempt(self, run: Run, token: str, agent: Agent, scenario: Scenario) -> bool:
        """Starts the agent with what is left of its budget; whether it is to be started again."""
        left = self.bench.remaining(run.id).seconds
        number = self.bench.attempts(run.id) + 1
        if left < LEAST_SECONDS:
            return False
        spec = self._spec(run, token, agent, scenario, left)
        probe = await asyncio.to_thread(self.runner.probe)
        self.bench.agent_started(run.id, number, probe.level)
        folder = self.bench.home.log(run.id) / f"agent-{number}"
        began = time.monotonic()
        try:
            record = await self.runner.run(spec, folder)
        except asyncio.CancelledError:
            self._ended(run, number, self.runner.recover(folder))
            raise
        self._ended(run, number, record, time.monotonic() - began)
        return _was_killed(record) and number <= agent.config.restarts

    def _ended(self, run: Run, number: int, record: JobRecord | None, elapsed: float = 0.0) -> None:
        """Notes an attempt's end. One that nobody measured to its end has used all of the ``elapsed`` seconds."""
        if record is None or record.stop is None:
            self.bench.agent_ended(run.id, number, "not started", None, Usage(0.0, 0.0))
            return
        used, wall, cpu = record.usage, record.usage.wall_seconds, record.usage.cpu_seconds
        if record.stop == JobStop.INTERRUPTED and not wall:  # its keeper was killed, too
            wall, cpu = elapsed, max(cpu, elapsed * (os.cpu_count() or 1))
        usage = Usage(wall, cpu, peak_memory=used.peak_memory, disk=used.disk)
        self.bench.agent_ended(run.id, number, record.stop, record.exit_code, usage)

    def _spec(self, run: Run, token: str, agent: Agent, scenario: Scenario, seconds: float) -> JobSpec:
        home, budget, address = self.bench.home, scenario.budget, urlsplit(self.server)
        base, data = self.bench.base_model(scenario), home.root / scenario.train_data_path
        ours = {
            "AUTORL_RUN": run.id,
            "AUTORL_SCENARIO": run.scenario,
            "AUTORL_SERVER": f"http://127.0.0.1:{address.port}",
            "AUTORL_TOKEN": token,
            "AUTORL_WORKSPACE": str(home.workspace(run.id)),
            "AUTORL_BASE_MODEL": str(base),
            "AUTORL_TRAIN_DATA": str(data),
            "AUTORL_TRACK": run.track.value,
            "AUTORL_SEED": str(run.seed),
            "AUTORL_BUDGET": json.dumps(dict(run.budget)),
            "AUTORL_SECONDS_LEFT": f"{seconds:.1f}",
            "AUTORL_ARGUMENTS": json.dumps(agent.config.arguments),
        }
        if agent.config.told_recipes:
            ours["AUTORL_RECIPES"] = json.dumps([recipe.model_dump(mode="json") for recipe in scenario.recipes])
        return JobSpec(
            agent.command(sys.executable),
            home.workspace(run.id).resolve(),
            readable=(*python_paths(), *library_paths(), *agent.readable, base.resolve(), data.resolve()),
            environment=agent.environment(self.operator) | ours,
            hidden=(home.vault.resolve(),),
            endpoints=(Endpoint(address.hostname or "127.0.0.1", address.port or 80), *agent.endpoints(self.operator)),
            limits=JobLimits(
                wall_seconds=seconds,
                cpu_seconds=max(1.0, budget.cpu_seconds - self.bench.used(run.id).cpu_seconds),
                memory=budget.memory_bytes,
                disk=budget.disk_bytes,
            ),
        )

    async def wait_for_end(self, run: Run) -> Run:
        """Waits until the grader has ended the run; gives up when nothing of it has moved for very long."""
        patience = 2 * run.budget["wall_seconds"] + 3600
        for _ in range(int(patience / _POLL)):
            with self.bench.store.read() as tx:
                now = tx.runs.get(run.id)
            if now.state.is_end:
                return now
            await asyncio.sleep(_POLL)
        reason = Reason("grader_silent", f"the grader gave no score within {patience:.0f} s")
        return self.bench.end(run.id, RunState.INFRASTRUCTURE, reason)

    @contextmanager
    def alone(self, run_id: str) -> Iterator[None]:
        """Makes this process the only one that runs a run's agent, while the block lasts.

        Raises:
            UserError: another one does.
        """
        with storage_errors(folder := self.bench.home.log(run_id)):
            folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            message = f"run {run_id} is being run by another autorl-bench; wait for it, or stop it (Ctrl-C) first"
            raise UserError(message) from error
        try:
            yield
        finally:
            lock.release()

    def recover(self, run_id: str) -> None:
        """Ends what a dead operator left running of an agent, and notes what it used.

        Raises:
            UnknownRecord: no such run.
            UserError: its operator is at work.
        """
        with self.bench.store.read() as tx:
            run = tx.runs.get(run_id)
        number = self.bench.attempts(run_id)
        folder = self.bench.home.log(run_id) / f"agent-{number}"
        with self.alone(run_id):
            if number and not self.bench.attempt_has_ended(run_id, number):
                self._ended(run, number, self.runner.recover(folder))


def _was_killed(record: JobRecord) -> bool:
    """Whether an agent neither ended by itself nor at a limit: its sandbox was killed, or its process by a signal."""
    by_signal = record.stop == JobStop.EXIT and record.exit_code is not None and record.exit_code < 0
    return by_signal or record.stop == JobStop.INTERRUPTED


def operator_environment() -> dict[str, str]:
    """The operator's variables, of which an agent gets those that it declares."""
    return dict(os.environ)
