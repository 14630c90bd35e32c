"""A stage of reinforcement learning: the trainer's own command, in this process, for so many steps or seconds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astune.report.run_folder import RunFolder

    from .settings import Settings
    from .stages import Stage, StageOutcome

#: Episodes that the score of a stage is averaged over, where it has so many.
SCORED_EPISODES = 128
#: The trainer is asked to end so many seconds before its time is over.
_CLOSING_SECONDS = 1.0
#: It is asked again so often.
_ALARM_PAUSE = 0.5
#: No evaluation of its own, no report: the training episodes say how it goes.
_QUIET = (
    *("evaluation.every=0", "evaluation.at_start=false", "evaluation.sampled=false", "evaluation.greedy=false"),
    *("evaluation.n_heldout=1", "tracking.report=false", "checkpoint.every=10", "checkpoint.keep_best=false"),
)


def train_rl(stage: Stage, model: Path, folder: Path, settings: Settings) -> StageOutcome:
    """Trains ``stage["steps"]`` steps in all; what earlier sittings did in the same folder counts.

    ``conf`` names a configuration beneath the project's folder, ``overrides`` are ``section.key=value``, in which
    ``{base_model}`` and ``{train_data}`` are filled in.

    Raises:
        RuntimeError: the trainer failed.
    """
    from astune.cli import main
    from astune.report.run_folder import RunFolder
    from astune.trainer.checkpoint import CheckpointStore

    from .stages import StageOutcome

    if _steps_of(RunFolder(folder.name, folder.parent)) > stage["steps"]:
        folder = folder.with_name(f"{folder.name}-{stage['steps']}")  # it has gone further than is asked for here
    done_before = len(RunFolder(folder.name, folder.parent).read_metrics())
    with Alarm(settings.seconds_left - _CLOSING_SECONDS):
        status = main(_arguments(stage, model, folder, settings))
    if status not in (0, 130):  # done, or stopped after a whole step
        raise RuntimeError(f"the trainer ended with status {status}")
    run = RunFolder(folder.name, folder.parent)
    rows, timings, steps = run.read_metrics(), run.read_timings()[done_before:], _steps_of(run)
    rows = rows[:steps]
    return StageOutcome(
        stage=dict(stage) | {"steps": steps},
        model=CheckpointStore(run.checkpoints).path(steps) if steps else model,
        history=[row["success_rate"] for row in rows],
        score=score_of(rows),
        seconds_per_step=_median([row["seconds"] for row in timings]),
    )


def _steps_of(run: RunFolder) -> int:
    """Steps of the newest checkpoint."""
    from astune.trainer.checkpoint import CheckpointStore

    return CheckpointStore(run.checkpoints).latest() or 0


def score_of(rows: Sequence[dict[str, Any]]) -> float | None:
    """Success of the latest training episodes: a score that costs nothing, of the policy a few steps ago."""
    solved = episodes = 0.0
    for row in reversed(rows):
        solved += row["success_rate"] * row["episodes"]
        episodes += row["episodes"]
        if episodes >= SCORED_EPISODES:
            break
    return solved / episodes if episodes else None


def _arguments(stage: Stage, model: Path, folder: Path, settings: Settings) -> list[str]:
    paths = {"{base_model}": str(model), "{train_data}": str(settings.train_data)}
    own = [_filled(text, paths) for text in stage.get("overrides", ())]
    return [
        *("--conf", str(configuration(stage.get("conf", "tutorial/example_math_agent/math_agent.yaml")))),
        f"model.path={model}",
        *("task_reader.type=dataset_file", f"task_reader.dataset_file.path={settings.train_data}"),
        f"seed={settings.seed}",
        *own,
        *_QUIET,
        f"trainer.steps={stage['steps']}",
        f"trainer.threads={settings.threads}",
        *(f"name={folder.name}", f"save_dir={folder.parent}"),
    ]


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def configuration(name: str) -> Path:
    """A configuration of the project, wherever the project is installed.

    Raises:
        FileNotFoundError: there is none of this name.
    """
    spec = find_spec(Path(name).parts[0])
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    for place in [*(Path(place).parent for place in places), Path.cwd()]:
        if (place / name).is_file():
            return place / name
    raise FileNotFoundError(f"there is no configuration {name}")


class Alarm:
    """Within the block, SIGTERM reaches this process from ``seconds`` on: the trainer then saves and ends.

    It comes again and again, and does nothing where the trainer does not listen: before it has begun, and when it is
    about to end anyway.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = max(0.1, seconds)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ring, name="alarm", daemon=True)

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, lambda *_: None)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        signal.signal(signal.SIGTERM, self._before)

    def _ring(self) -> None:
        pause = self._seconds
        while not self._over.wait(pause):
            os.kill(os.getpid(), signal.SIGTERM)
            pause = _ALARM_PAUSE


def _median(values: Sequence[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None
