"""A task as an agent is given it, in a folder of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.common.task import Budget, Deadline, Task
from astune.models.nano import NANO_PATH
from autorl_bench.scenarios import ScenarioRegistry, details
from autorl_bench.scenarios.problem import Problem
from autorl_bench.scenarios.sources import make_generator
from tests.agents.fake_endpoint import FakeEndpoint, Scripted


def some_records(scenario_id: str, count: int) -> list[dict[str, Any]]:
    """Training records of a scenario's own generator."""
    from random import Random

    generator, rng = make_generator(ScenarioRegistry().get(scenario_id)), Random(0)
    problems: list[Problem] = [generator.draw(rng, index) for index in range(count)]
    return [{"id": str(n), "question": one.question, "answer": one.solution} for n, one in enumerate(problems)]


@pytest.fixture
def make_task(tmp_path) -> Callable[..., Task]:
    def make(scenario: str = "nano_gsm", seconds: float = 120.0, **changes: Any) -> Task:
        workspace = tmp_path / "workspace"
        workspace.mkdir(exist_ok=True)
        data = tmp_path / "train.jsonl"
        data.write_text("".join(f"{json.dumps(record)}\n" for record in some_records(scenario, 300)))
        task = {
            "run": "run",
            "scenario": scenario,
            "workspace": workspace,
            "base_model": Path(NANO_PATH),
            "train_data": data,
            "track": "weights",
            "seed": 0,
            "budget": Budget(600.0, 1200.0),
            "deadline": Deadline.after(seconds, time.monotonic),
        }
        return Task(**(task | changes))

    return make


@pytest.fixture
def details_of() -> Callable[[str], dict[str, Any]]:
    return lambda scenario_id: details(ScenarioRegistry().get(scenario_id))


@pytest.fixture
def endpoint() -> Iterator[Callable[..., FakeEndpoint]]:
    made: list[FakeEndpoint] = []

    def make(script: list[Scripted]) -> FakeEndpoint:
        made.append(FakeEndpoint(script))
        return made[-1]

    yield make
    for one in made:
        one.stop()
