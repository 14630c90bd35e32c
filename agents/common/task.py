"""What an agent is given: its environment, read once and checked."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from astune.errors import ConfigError

#: What is expected of a machine that has not been measured yet.
_DEFAULT_MEMORY_GIB = 4.0
_DEFAULT_DISK_GIB = 2.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on this process's clock after which nothing may be begun any more."""

    ends_at: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """The moment ``seconds`` from now."""
        return cls(clock() + seconds, clock)

    @property
    def seconds_left(self) -> float:
        """Seconds until then; negative when it has passed."""
        return self.ends_at - self.clock()

    def earlier_by(self, seconds: float) -> Deadline:
        """A deadline that leaves ``seconds`` for what comes after."""
        return Deadline(self.ends_at - seconds, self.clock)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may use, all its processes together; ``wall_seconds`` counts from the run's first start."""

    wall_seconds: float
    cpu_seconds: float
    memory_gib: float = _DEFAULT_MEMORY_GIB
    disk_gib: float = _DEFAULT_DISK_GIB
    submissions: int = 1
    dev_queries: int = 0

    @classmethod
    def from_json(cls, text: str) -> Budget:
        """Reads ``AUTORL_BUDGET``; keys that are not known here are left alone."""
        data = json.loads(text)
        return cls(**{name: data[name] for name in cls.__slots__ if name in data})

    @property
    def memory_bytes(self) -> int:
        """``memory_gib`` in bytes."""
        return int(self.memory_gib * 2**30)

    @property
    def disk_bytes(self) -> int:
        """``disk_gib`` in bytes."""
        return int(self.disk_gib * 2**30)

    @property
    def threads(self) -> int:
        """Threads that may compute all the time without spending the CPU seconds before the wall seconds."""
        affordable = int(self.cpu_seconds / self.wall_seconds + 0.01)
        return max(1, min(len(os.sched_getaffinity(0)), affordable))


@dataclass(frozen=True, slots=True)
class Task:
    """One run of an agent: where everything is, and when it has to be done."""

    run: str
    scenario: str
    workspace: Path
    base_model: Path
    train_data: Path
    track: Literal["weights", "replay"]
    seed: int
    budget: Budget
    deadline: Deadline
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> Task:
        """Reads the variables that the benchmark sets.

        Raises:
            ConfigError: one is missing or cannot be read.
        """

        def value(name: str) -> str:
            if name not in environment:
                raise ConfigError(f"{name} is not set: agents are started by `autorl-bench run`")
            return environment[name]

        try:
            return cls(
                run=value("AUTORL_RUN"),
                scenario=value("AUTORL_SCENARIO"),
                workspace=Path(value("AUTORL_WORKSPACE")).absolute(),
                base_model=Path(value("AUTORL_BASE_MODEL")).absolute(),
                train_data=Path(value("AUTORL_TRAIN_DATA")).absolute(),
                track=cast(Literal["weights", "replay"], value("AUTORL_TRACK")),
                seed=int(value("AUTORL_SEED")),
                budget=Budget.from_json(value("AUTORL_BUDGET")),
                deadline=Deadline.after(float(value("AUTORL_SECONDS_LEFT")), clock),
                arguments=json.loads(environment.get("AUTORL_ARGUMENTS") or "{}"),
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"a variable of the benchmark cannot be read: {error}") from error

    @property
    def code(self) -> Path:
        """``code/``: what the replay track takes."""
        return self.workspace / "code"

    @property
    def output_model(self) -> Path:
        """``output/model/``: what is evaluated."""
        return self.workspace / "output" / "model"
