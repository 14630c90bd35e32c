"""Where proposals come from: a search over typed recipes, a language model, or recorded answers."""

from __future__ import annotations

from typing import Any

from agents.common.bench import Bench
from agents.common.task import Task
from agents.rdagent.drivers.base import Driver
from astune.errors import ConfigError

DRIVERS = ("search", "llm", "replay")


def make_driver(task: Task, details: dict[str, Any], bench: Bench) -> tuple[Driver, float]:
    """The driver that the agent's arguments name, and the tolerance that its scores need.

    Raises:
        ConfigError: there is no such driver, or its own settings cannot be used.
    """
    name = task.arguments.get("driver", "search")
    if name == "search":
        from agents.common.space import space_of
        from agents.rdagent.drivers.search import SearchDriver

        space = space_of(details)
        return SearchDriver(space, task.seed), space.noise(1.0)
    if name == "llm":
        from agents.rdagent.drivers.llm import LanguageModelDriver, endpoint_from

        return LanguageModelDriver(endpoint_from(task.arguments), task, bench.report_tokens), 0.0
    if name == "replay":
        from agents.rdagent.drivers.replay import replay_driver

        return replay_driver(task, bench.report_tokens), 0.0
    raise ConfigError(f"there is no driver {name!r}; known are {', '.join(DRIVERS)}")
