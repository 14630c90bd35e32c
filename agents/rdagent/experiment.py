"""Runs a trial: writes its code to the workspace, runs it under limits, and reads what came of it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.common.bench import Bench
from agents.common.experiment import Ended, Limits, folder_size, run_script, script_environment
from agents.common.launch import Launcher, Start
from agents.common.task import Deadline, Task
from agents.common.training.publish import is_model
from agents.common.training.stages import chain_name, models_of, stage_folder, stage_name
from agents.common.write_code import write_code
from agents.rdagent.records import Outcome, Trial
from astune.errors import CheckpointError
from astune.files import atomic_write
from astune.report.run_folder import RunFolder

#: Seconds between being asked to end and being killed.
GRACE = 4.0
#: Of the run's memory and disk, what one experiment may use: the rest is the agent's own, and the run must not end.
MEMORY_SHARE, DISK_SHARE = 0.75, 0.8
#: A run whose success, over so many episodes, falls below this share of what it has been has diverged.
DIVERGED, DIVERGED_EPISODES = 0.4, 64


@dataclass(slots=True)
class Lab:
    """Runs trials in ``workspace/experiments/NNN/``.

    Attributes:
        task: the run.
        launcher: starts scripts.
        bench: where scores on dev come from.
        by_dev: score experiments on dev as long as questions are left.
        deadline: everything has to be over by then.
    """

    task: Task
    launcher: Launcher
    bench: Bench
    by_dev: bool
    deadline: Deadline

    @property
    def cache(self) -> Path:
        """Stages that were trained, for chains that go on from them."""
        return self.task.workspace / "cache"

    def folder(self, trial: Trial) -> Path:
        """Where a trial's code, log and model are."""
        return self.task.workspace / "experiments" / f"{trial.number:03d}"

    def code(self, trial: Trial) -> Path:
        """The trial's ``code/``."""
        return self.folder(trial) / "code"

    def write(self, trial: Trial) -> Path:
        """Writes the trial's code; returns its script.

        Raises:
            CheckpointError: the disk is full.
        """
        proposal = trial.proposal
        if proposal.code is None:
            return write_code(self.code(trial), proposal.hypothesis, proposal.stages)
        script = write_code(self.code(trial), proposal.hypothesis, ())  # the package beside it is a toolbox
        atomic_write(script, proposal.code)
        return script

    def run(self, trial: Trial, start_model: Path | None, experiment: int | None = None) -> Outcome:
        """Runs a trial to its end. Whatever the code does, the outcome says so; nothing is raised for it."""
        folder = self.folder(trial)
        seconds = min(trial.proposal.seconds, self.deadline.seconds_left)
        try:
            script = self.write(trial)
            shutil.rmtree(folder / "model", ignore_errors=True)
            ended = self._run(trial, script, seconds, start_model)
        except (CheckpointError, OSError) as error:
            return Outcome(None, f"The experiment could not be run: {error}", error=str(error))
        outcome = self._outcome(trial, ended)
        if outcome.error is not None:
            shutil.rmtree(folder / "model", ignore_errors=True)
            return outcome
        return self._scored(outcome, experiment)

    def forget(self, trial: Trial, kept: Sequence[Trial]) -> None:
        """Removes what the cache holds for a trial and for none of ``kept``."""
        needed = {path for one in kept for path in self._cached(one)}
        for path in self._cached(trial) - needed:
            shutil.rmtree(path, ignore_errors=True)
            path.with_suffix(".json").unlink(missing_ok=True)

    def _cached(self, trial: Trial) -> set[Path]:
        found, name = set(), ""
        for stage in trial.outcome.stages if trial.outcome is not None else ():
            found.add(stage_folder(self.cache, stage_name(name, stage)))
            name = chain_name(name, stage)
            found.add(models_of(self.cache, name))
        return found

    def _run(self, trial: Trial, script: Path, seconds: float, start_model: Path | None) -> Ended:
        folder = self.folder(trial)
        budget = self.task.budget
        used = folder_size(self.task.workspace)
        report = folder / "report.json"
        report.unlink(missing_ok=True)
        environment = script_environment(
            self.task,
            folder / "model",
            seconds,
            start_model=start_model,
            AUTORL_CACHE=str(self.cache),
            AUTORL_REPORT=str(report),
        )
        return run_script(
            self.launcher,
            Start(script, script.parent, environment, folder / "log.txt"),
            Limits(
                seconds,
                grace=min(GRACE, max(0.5, self.deadline.seconds_left - seconds)),
                memory=int(budget.memory_bytes * MEMORY_SHARE),
                disk=max(used, int(budget.disk_bytes * DISK_SHARE)),
            ),
            report=report,
            watch=lambda: self._watch(trial),
            disk_of=self.task.workspace,
        )

    def _watch(self, trial: Trial) -> str | None:
        """Why to end a chain of ours early: its last stage unlearns what the model could do."""
        if trial.proposal.code is not None or trial.proposal.stages[-1]["method"] != "rl":
            return None
        name = ""
        for stage in trial.proposal.stages[:-1]:
            name = chain_name(name, stage)
        folder = stage_folder(self.cache, stage_name(name, trial.proposal.stages[-1]))
        return divergence(RunFolder(folder.name, folder.parent).read_metrics())

    def _outcome(self, trial: Trial, ended: Ended) -> Outcome:
        """Reads what a script left. A model without a score is scored on dev, if at all."""
        folder = self.folder(trial)
        model = folder / "model"
        report = ended.report
        if not ended.succeeded or not is_model(model):
            error = _why_nothing(ended, is_model(model))
            return Outcome(None, error, seconds=ended.seconds, error=error, log=ended.log)
        score = _number(report, "score")
        history = [float(value) for value in report.get("history", ()) if isinstance(value, int | float)]
        trained = report.get("stages", ())
        outcome = Outcome(
            score=score,
            feedback="",
            model=str(model),
            stages=trained,
            history=history[-50:],
            seconds=ended.seconds,
            seconds_per_step=_number(report, "seconds_per_step"),
            base_first=_measures_the_base(trained, len(history)),
            log=ended.log,
        )
        outcome = replace(outcome, feedback=_in_words(outcome, ended))
        if ended.why is not None:
            return replace(outcome, score=None, model=None, diverged=True, error=f"it diverged: {ended.why}")
        return outcome

    def _scored(self, outcome: Outcome, experiment: int | None) -> Outcome:
        """Asks dev, where experiments are judged by it."""
        if outcome.model is None or not self.by_dev:
            if outcome.model is not None and outcome.score is None:
                error = "the script left a model and no score"
                return replace(outcome, error=error, feedback=f"{outcome.feedback} {error}.".strip())
            return outcome
        dev = self.bench.evaluate(outcome.model, self.deadline, experiment=experiment)
        if dev is not None:
            words = (
                f"On dev it scored {dev.score:.1f} % ({dev.low:.1f} to {dev.high:.1f}); the base {dev.baseline:.1f} %."
            )
            return replace(
                outcome, score=dev.score / 100, dev=dev.score, feedback=f"{outcome.feedback} {words}".strip()
            )
        if outcome.score is None:
            return replace(outcome, score=0.0, feedback=f"{outcome.feedback} Dev gave no score.".strip())
        return outcome


def divergence(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a training whose metrics these are has diverged; None where it has not."""
    windows: list[float] = []
    solved = episodes = 0.0
    for row in rows:
        solved += row["success_rate"] * row["episodes"]
        episodes += row["episodes"]
        if episodes >= DIVERGED_EPISODES:
            windows.append(solved / episodes)
            solved = episodes = 0.0
    if len(windows) < 2 or windows[-1] >= DIVERGED * max(windows[:-1]):
        return None
    return f"success fell from {max(windows[:-1]):.0%} to {windows[-1]:.0%} in {len(rows)} steps"


def _why_nothing(ended: Ended, left_a_model: bool) -> str:
    last = "\n".join(ended.log.strip().splitlines()[-8:])
    match ended.stop:
        case "time":
            return (
                f"The script was stopped after {ended.seconds:.0f} s and had left no whole model. It printed:\n{last}"
            )
        case "disk":
            return f"The script wrote more than the disk budget allows and was stopped. It printed:\n{last}"
        case "output":
            return f"The script printed too much and was stopped. The end of it:\n{last}"
        case _ if ended.exit_code != 0:
            return f"The script failed with status {ended.exit_code} after {ended.seconds:.0f} s. It printed:\n{last}"
        case _:
            left = "a model" if left_a_model else "no model in AUTORL_OUTPUT (config.json and *.safetensors)"
            return f"The script ended without an error and left {left}. It printed:\n{last}"


def _in_words(outcome: Outcome, ended: Ended) -> str:
    steps = sum(int(stage.get("steps", 0)) for stage in outcome.stages)
    parts = [f"Trained {steps} steps in {ended.seconds:.0f} s." if steps else f"Ran for {ended.seconds:.0f} s."]
    if outcome.history:
        parts.append(f"Training score went from {outcome.history[0]:.2f} to {outcome.history[-1]:.2f}.")
    if ended.why is not None:
        parts.append(f"Stopped early: {ended.why}.")
    return " ".join(parts)


def _measures_the_base(stages: Sequence[Mapping[str, Any]], scores: int) -> bool:
    """Whether the first score is that of the base model: reinforcement learning scores each step before it updates."""
    return len(stages) == 1 and stages[0].get("method") == "rl" and 0 < scores <= 50


def _number(report: Mapping[str, Any], name: str) -> float | None:
    value = report.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
