"""A training run as a chain of stages, each of which starts from the model that the one before it left.

A stage is a mapping: ``method`` (``rl`` or ``supervised``), ``steps``, and the settings of that method. Stages are
kept in a cache under names made of all that decides them, so a chain that begins like an earlier one trains only what
is new, and a stage that is given more steps goes on from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from astune.files import atomic_write

from .publish import is_model, publish_model
from .settings import Settings

Stage = Mapping[str, Any]
#: A stage is not begun with less than this.
_LEAST_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What came of one stage.

    Attributes:
        stage: as it was run: ``steps`` are those that were done.
        model: where its model is; the model before it, if no step was done.
        history: the training score after each step, at best 1.
        score: an average of the latest of them; None without any.
        seconds_per_step: of the steps of this sitting; None where there were none.
    """

    stage: dict[str, Any]
    model: Path
    history: list[float] = field(default_factory=list)
    score: float | None = None
    seconds_per_step: float | None = None


#: Trains one stage: its settings, the model to start from, the folder that is the stage's own, the whole task.
Method = Callable[[Stage, Path, Path, Settings], StageOutcome]


class TrainingStopped(Exception):
    """SIGTERM came where no trainer was there to catch it."""


def stage_name(before: str, stage: Stage) -> str:
    """Names a stage by the chain before it and by its own settings; how many steps it takes is not part of it."""
    settings = {key: value for key, value in stage.items() if key != "steps"}
    return _hash(before, settings)


def chain_name(before: str, stage: Stage) -> str:
    """Names the model that a stage leaves: its chain, its settings and its steps."""
    return _hash(before, dict(stage))


def models_of(cache: Path, name: str) -> Path:
    """Where the cache keeps the model of a chain."""
    return cache / "models" / name


def stage_folder(cache: Path, name: str) -> Path:
    """Where the cache keeps the trainer's own files of a stage."""
    return cache / "stages" / name


def _hash(before: str, settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(f"{before}:{json.dumps(settings, sort_keys=True)}".encode()).hexdigest()[:16]


def run_stages(stages: Sequence[Stage], settings: Settings | None = None) -> None:
    """Trains all stages, as far as the time goes, and leaves the model in ``output``.

    Prints the outcome as the last line, and writes it to the report file, too.

    Raises:
        RuntimeError: not a single step was done.
    """
    # Read when torch is loaded: threads that spin without end would take the cores from each other.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    settings = settings or Settings.from_environment()
    outcomes: list[StageOutcome] = []
    model, name = settings.base_model, ""
    try:
        for stage in stages:
            outcome = _one(stage, model, name, settings)
            outcomes.append(outcome)
            model, name = outcome.model, chain_name(name, outcome.stage)
            if outcome.stage["steps"] < stage["steps"]:
                break  # the time is over
    except TrainingStopped:
        print("stopped before the first step of a stage", flush=True)
    if not any(outcome.stage["steps"] for outcome in outcomes):
        raise RuntimeError("no training step was done: the time was over before the first one ended")
    publish_model(model, settings.output)
    last = [outcome for outcome in outcomes if outcome.stage["steps"]][-1]
    result = asdict(last) | {"model": str(model), "stages": [o.stage for o in outcomes if o.stage["steps"]]}
    del result["stage"]
    if settings.report is not None:
        atomic_write(settings.report, json.dumps(result))
    print(f"result {json.dumps(result)}", flush=True)


def _one(stage: Stage, model: Path, before: str, settings: Settings) -> StageOutcome:
    """One stage, from the cache if it is there."""
    kept = models_of(settings.cache, chain_name(before, stage))
    record = kept.with_suffix(".json")
    if is_model(kept) and record.is_file():
        found = json.loads(record.read_text())
        return StageOutcome(dict(stage), kept, found["history"], found["score"], found["seconds_per_step"])
    if settings.seconds_left < _LEAST_SECONDS:
        return StageOutcome(dict(stage) | {"steps": 0}, model)
    folder = stage_folder(settings.cache, stage_name(before, stage))
    signal.signal(signal.SIGTERM, _stop)
    outcome = _method(stage["method"])(stage, model, folder, settings)
    signal.signal(signal.SIGTERM, _stop)  # trainers leave it to the system's default
    if not outcome.stage["steps"]:
        return StageOutcome(outcome.stage, model)
    kept = models_of(settings.cache, chain_name(before, outcome.stage))
    publish_model(outcome.model, kept)
    facts = {key: value for key, value in asdict(outcome).items() if key not in ("model", "stage")}
    atomic_write(kept.with_suffix(".json"), json.dumps(facts))
    return StageOutcome(outcome.stage, kept, outcome.history, outcome.score, outcome.seconds_per_step)


def _method(name: str) -> Method:
    """The trainer of a method; imported when it is wanted."""
    if name == "rl":
        from .rl import train_rl

        return train_rl
    if name == "supervised":
        from .supervised import train_supervised

        return train_supervised
    raise ValueError(f"there is no training method {name!r}; known are rl and supervised")


def _stop(*_: object) -> None:
    raise TrainingStopped
