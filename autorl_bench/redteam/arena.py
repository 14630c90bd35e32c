"""A benchmark in a temporary folder for the red team to attack: real server, real grader, real jobs, real store."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from autorl_bench.agents import Agent, AgentConfig
from autorl_bench.bench import Bench
from autorl_bench.client import BenchClient, BenchError
from autorl_bench.grader.measure import Measuring
from autorl_bench.home import Home
from autorl_bench.jobs import LocalJobRunner
from autorl_bench.operate.agent_job import AgentJob
from autorl_bench.operate.serving import options_of, served
from autorl_bench.redteam.inside import OPERATOR_SECRET, Report, told
from autorl_bench.redteam.types import Seen
from autorl_bench.scenarios import Scenario, ScenarioRegistry, prepare
from autorl_bench.store import RunState, Track, open_store
from autorl_bench.store.records import Run
from autorl_bench.submission.findings import FlagCode
from autorl_bench.types import Item, Reason

SCENARIOS = Path(__file__).parent / "scenarios"
SCENARIO = "redteam"
_PATIENCE = 180.0

Inside = Callable[[Report], None]


@dataclass(frozen=True)
class Arena:
    """The attacked benchmark.

    Attributes:
        bench: the operator's access to it.
        server: its address, as agents get it; ``pages`` is where people look.
        runner: where agents run.
        folder: a place for what the operator of an attack needs; no agent sees it unless it is told to.
    """

    bench: Bench
    server: str
    pages: str
    runner: LocalJobRunner
    folder: Path

    @property
    def home(self) -> Home:
        """The benchmark's folder."""
        return self.bench.home

    def scenario(self, **budget: float) -> Scenario:
        """The scenario, with other numbers in its budget."""
        scenario = self.bench.scenarios.get(SCENARIO)
        return scenario.model_copy(update={"budget": scenario.budget.model_copy(update=budget)})

    @property
    def base(self) -> Path:
        """The base model."""
        return self.bench.base_model(self.scenario())

    def create(self, name: str, *, track: Track = Track.WEIGHTS, **budget: float) -> Player:
        """A run, and whoever plays it."""
        level = self.runner.probe().level
        scenario = self.scenario(**budget)
        run, token = self.bench.create(scenario, name, {"redteam": name}, track=track, isolation=level)
        return Player(self, run, token)

    def play(self, name: str, *, track: Track = Track.WEIGHTS, **budget: float) -> Player:
        """A run whose agent is a client of ours, outside of any job."""
        player = self.create(name, track=track, **budget)
        self.bench.agent_started(player.run.id, 1, "none")
        return player

    def run_agent(
        self,
        attack: Inside,
        *,
        arguments: Mapping[str, Any] | None = None,
        readable: Sequence[Path] = (),
        track: Track = Track.WEIGHTS,
        player: Player | None = None,
        restarts: int = 0,
        **budget: float,
    ) -> Seen:
        """Runs a function as an agent in a real job, to the end of its run."""
        player = player or self.create(attack.__name__, track=track, **budget)
        folder = self.folder / "agents" / attack.__name__
        folder.mkdir(parents=True, exist_ok=True)
        config = AgentConfig(
            description="One of the red team.",
            command=["python", "-m", "autorl_bench.redteam.inside", f"{attack.__module__}:{attack.__name__}"],
            arguments=dict(arguments or {}),
            readable=[str(path) for path in readable],
            restarts=restarts,
        )
        operator = dict(os.environ) | {OPERATOR_SECRET: "not for agents"}
        job = AgentJob(self.bench, self.server, self.runner, operator, lambda _: None)
        asyncio.run(job.run(player.run, player.token, Agent(player.run.agent, folder, config)))
        return player.seen()

    def items(self, run: Run, split: str) -> Sequence[Item]:
        """The items of a run's hidden split, which only an operator can leak."""
        return Measuring.of(self.bench, run).items(split)  # type: ignore[arg-type]  # one of the four

    def output(self, run_id: str) -> str:
        """All that a run's agent printed."""
        logs = sorted(self.home.log(run_id).glob("*/stdout.log"))
        return "\n".join(log.read_text(errors="replace") for log in logs)


@dataclass(frozen=True)
class Player:
    """One run from the point of view of somebody who holds its token."""

    arena: Arena
    run: Run
    token: str

    @property
    def workspace(self) -> Path:
        """The run's own folder."""
        return self.arena.home.workspace(self.run.id)

    @property
    def client(self) -> BenchClient:
        """The typed client."""
        return BenchClient(self.arena.server, self.token, self.run.id, patience=20)

    @property
    def http(self) -> httpx.Client:
        """Plain HTTP with the run's token."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.arena.server, headers=headers, timeout=120, trust_env=False)

    def copy_base(self, name: str = "output/model") -> Path:
        """Puts a copy of the base model into the workspace."""
        target = self.workspace / name
        shutil.copytree(self.arena.base, target, dirs_exist_ok=True)
        return target

    def refusals(self, *requests: Callable[[], object]) -> tuple[str, ...]:
        """The codes with which requests were refused; ``accepted`` for one that was not."""
        codes = []
        for request in requests:
            try:
                request()
            except BenchError as error:
                codes.append(error.code)
            else:
                codes.append("accepted")
        return tuple(codes)

    def finish(self) -> Seen:
        """Ends the agent's part, waits for the end of the run, and tells what came of it."""
        bench = self.arena.bench
        bench.stop_clock(self.run.id)
        run = bench.finish(self.run.id)
        job = AgentJob(bench, self.arena.server, self.arena.runner, {}, lambda _: None)
        asyncio.run(asyncio.wait_for(job.wait_for_end(run), _PATIENCE))
        return self.seen()

    def abandon(self) -> None:
        """Ends a run that has told enough."""
        self.arena.bench.end(self.run.id, RunState.INTERRUPTED, Reason("redteam", "the attack is over"))

    def seen(self, *, codes: Sequence[str] = (), loot: Sequence[str] = ()) -> Seen:
        """What the store and the job's output tell of the run, with what the attack saw by itself."""
        said, taken = told(self.arena.output(self.run.id))
        with self.arena.bench.store.read() as tx:
            run = tx.runs.get(self.run.id)
            flags = [record.flag.code for record in tx.ledger.flags(run.id)]
            submissions = tx.submissions.of_run(run.id)
            ends = [str(event.detail["stop"]) for event in tx.ledger.events(run.id, "agent.ended")]
            score, baseline = tx.results.score(run.id), tx.results.baseline(run.id)
        noticed = [flag["code"] for one in submissions for flag in one.report.get("findings", ())]
        reasons = [reason.code for reason in (*run.reasons, *(each for one in submissions for each in one.reasons))]
        stops = [stop for stop in ends if stop not in ("exit", "finished")]
        named = dict.fromkeys((*codes, *said, *reasons, *flags, *noticed, *stops))
        binding = {code.value for code in FlagCode if not code.binds}
        return Seen(
            codes=tuple(named),
            loot=(*loot, *taken),
            score=None if score is None else score.evaluation.accuracy,
            baseline=None if baseline is None else baseline.evaluation.accuracy,
            apart=any(code not in binding for code in flags),
        )


def with_codes(seen: Seen, codes: Sequence[str] = (), loot: Sequence[str] = ()) -> Seen:
    """``seen`` with more codes and more loot."""
    return replace(seen, codes=tuple(dict.fromkeys((*seen.codes, *codes))), loot=(*seen.loot, *loot))


@contextmanager
def arena(folder: Path | None = None) -> Iterator[Arena]:
    """A benchmark with its server and its grader, each a process of its own, while the block runs.

    Args:
        folder: where; a temporary folder by default.
    """
    with _place(folder) as place, _quiet_threads():
        bench = make_bench(place / "bench")
        with served(options_of(bench.home.root, [SCENARIOS]), 0) as server:
            yield Arena(bench, server.agents, server.pages, LocalJobRunner(), place)


def make_bench(home: Path) -> Bench:
    """The attacked benchmark's folder and store, with the scenario's files in place."""
    bench = Bench(Home(home), open_store(_made(home)), ScenarioRegistry([SCENARIOS]))
    prepare(bench.scenarios.get(SCENARIO), bench.home.roots)
    return bench


def _made(home: Path) -> Path:
    place = Home(home)
    place.make()
    return place.store


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="autorl-redteam-") as name:
        yield Path(name)


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """One thread an evaluation: those of this scenario are so small that more only wait for each other."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def json_lines(path: Path, items: Sequence[Item]) -> Path:
    """Items as a leaked file: their questions and answers."""
    records = ({"question": item.messages[-1]["content"], "answer": item.target} for item in items)
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return path
