"""The agent on real processes, with a server that cannot be reached or with a scripted endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agents.common.bench import Bench
from agents.common.launch import ColdLauncher
from agents.common.task import Task
from agents.rdagent.agent import ResearchAgent
from agents.rdagent.drivers.base import Driver
from autorl_bench.client import BenchClient

#: Leaves a model that is the base, and the score that is filled in.
TRAIN = """
import json, os, shutil
shutil.copytree(os.environ["AUTORL_START_MODEL"], os.environ["AUTORL_OUTPUT"], dirs_exist_ok=True)
json.dump({{"score": {score}}}, open(os.environ["AUTORL_REPORT"], "w"))
print("trained to {score}")
"""


def training(score: float) -> str:
    """A script that claims a score."""
    return TRAIN.format(score=score)


@pytest.fixture
def unreachable() -> Iterator[Bench]:
    """A benchmark whose server is gone, for work that has to go on."""
    client = BenchClient("http://127.0.0.1:9", "run:token", "run", patience=0.0)
    yield Bench(client, queries_left=2)
    client.close()


@pytest.fixture
def agent_of(unreachable, details_of) -> Callable[..., ResearchAgent]:
    def make(task: Task, driver: Driver, **options: Any) -> ResearchAgent:
        return ResearchAgent(task, driver, unreachable, ColdLauncher(), details_of(task.scenario), **options)

    return make
