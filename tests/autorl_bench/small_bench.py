"""A benchmark small enough for tests: few items, two tokens a completion, half of all items solvable."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from safetensors.numpy import load_file, save_file

from autorl_bench.bench import Bench
from autorl_bench.client import BenchClient
from autorl_bench.home import Home
from autorl_bench.scenarios import ScenarioRegistry, prepare
from autorl_bench.store import Role, RunState, open_store
from autorl_bench.store.records import EvaluationRecord, Run

N = {"dev": 4, "test": 6, "twin": 5}
SCENARIO = """\
title: Word problems, two words of an answer
base_model_path: assets/models/nano
train_data_path: assets/data/tiny/train.jsonl
baseline_score: 50.0
metric: accuracy
base_model: {bundled: nano}
source: {type: generator, generator: nano_gsm}
n: {train: 12, dev: 4, test: 6, twin: 5}
generation: {max_tokens: 2}
checker: words.py->Words
budget: {wall_seconds: 120, cpu_seconds: 240, memory_gib: 2, disk_gib: 1, submissions: 3, dev_queries: 4}
seed: 7
"""
#: Every second item is solved by whoever says a word. The bundled model does; one whose last norm is zero says "!!".
CHECKER = """\
class Words:
    async def grade(self, item, completion):
        return any(map(str.isalpha, completion)) and int(item.id[-1], 16) % 2 == 0
"""


def write_scenario(folder: Path, *changes: tuple[str, str], name: str = "tiny", checker: str = CHECKER) -> Path:
    """Writes the scenario with pieces replaced; its checker lies beside it."""
    text = SCENARIO.replace("assets/data/tiny", f"assets/data/{name}").replace("words.py", f"{name}_words.py")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_words.py").write_text(checker)
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return file


def change_model(base: Path, target: Path, *, nudge: float = 1e-3, mute: bool = False) -> Path:
    """A model folder as an agent leaves it: the base's, with one tensor changed; ``mute`` makes it say nothing."""
    target.mkdir(parents=True, exist_ok=True)
    state = load_file(base / "model.safetensors")
    name = "model.norm.weight"
    state[name] = state[name] * np.float32(0 if mute else 1 + nudge)
    save_file(state, target / "model.safetensors", {"format": "pt"})
    shutil.copyfile(base / "config.json", target / "config.json")
    return target


@dataclass(frozen=True)
class SmallBench:
    """A benchmark folder with the scenario ``tiny``, and its rules."""

    bench: Bench
    scenarios: Path

    @classmethod
    def make(cls, folder: Path, store: str | None = None, clock: Callable[[], float] | None = None) -> SmallBench:
        write_scenario(folder / "scenarios")
        home = Home(folder / "home")
        home.make()
        scenarios = ScenarioRegistry([folder / "scenarios"])
        small = cls(Bench(home, open_store(store or home.store, clock=clock), scenarios), folder / "scenarios")
        prepare(scenarios.get("tiny"), home.roots)
        return small

    @property
    def home(self) -> Home:
        return self.bench.home

    @property
    def base(self) -> Path:
        return self.home.root / "assets" / "models" / "nano"

    def start(self, scenario: str = "tiny", **options: Any) -> tuple[Run, str]:
        """A run whose agent is at work, and its token."""
        run, token = self.bench.create(self.bench.scenarios.get(scenario), "tester", {}, isolation="none", **options)
        self.bench.agent_started(run.id, 1, "none")
        return self.run(run.id), token

    def run(self, run_id: str) -> Run:
        with self.bench.store.read() as tx:
            return tx.runs.get(run_id)

    def model(self, run: Run, path: str = "output/model", **changes: Any) -> str:
        """Puts a trained model into the run's workspace; its path as an agent would name it."""
        change_model(self.base, self.home.workspace(run.id) / path, **changes)
        return path

    def evaluations(self, run_id: str, role: Role) -> list[EvaluationRecord]:
        with self.bench.store.read() as tx:
            return tx.results.of_run(run_id, role)

    def flags(self, run_id: str) -> list[str]:
        with self.bench.store.read() as tx:
            return [record.flag.code for record in tx.ledger.flags(run_id)]

    def jobs(self, run_id: str) -> list[Any]:
        with self.bench.store.read() as tx:
            return tx.queue.jobs(run_id)

    def check_honest(self) -> None:
        """What holds whatever was killed: no score that nobody computed, no evaluation in part, none twice."""
        with self.bench.store.read() as tx:
            for run in tx.runs.all():
                score = tx.results.score(run.id)
                assert (run.state == RunState.SCORED) == (score is not None), run
                seen = [record.role for record in tx.results.of_run(run.id)]
                assert all(seen.count(role) == 1 for role in seen if role != Role.DEV), seen
                for record in tx.results.of_run(run.id):
                    ids = [result.item_id for result in record.evaluation.results]
                    assert len(set(ids)) == len(ids) == N[record.split], record.role


@dataclass(frozen=True)
class Served:
    """A served benchmark: real processes, real HTTP. ``address`` is the agents', ``pages`` everybody else's."""

    small: SmallBench
    address: str
    pages: str

    def client(self, token: str | None, **options: Any) -> BenchClient:
        return BenchClient(self.address, token, **options)

    def start(self, scenario: str = "tiny", **options: Any) -> tuple[Run, BenchClient]:
        run, token = self.small.start(scenario, **options)
        return run, self.client(token)


def children(pid: int, *words: str) -> list[psutil.Process]:
    """The living processes that ``pid`` started, or that those did, whose command line holds all ``words``."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):
            if set(words) <= set(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 180.0) -> Any:
    """Waits for something that has to happen; its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.05)
    return value


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Sets variables for processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def autorl_bench(*arguments: object) -> list[str]:
    """The command line of the real command."""
    return [sys.executable, "-m", "autorl_bench", *map(str, arguments)]
