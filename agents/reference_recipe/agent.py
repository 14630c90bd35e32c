"""Trains the scenario's first recipe in one go, stopping in time to leave a model."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agents.common.experiment import Limits, run_script, script_environment
from agents.common.launch import ColdLauncher, Start
from agents.common.script import run_agent
from agents.common.task import Task
from agents.common.training.publish import is_model, publish_model
from agents.common.write_code import write_code
from astune.config import load_config
from astune.errors import AstuneError, ConfigError
from autorl_bench.client import BenchClient
from autorl_bench.scenarios.schema import Recipe

#: Seconds at the end for this process to hand the model over.
CLOSING_SECONDS = 2.0


def stage_of(recipe: Recipe, prompt: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as a stage of training; ``prompt`` is the scenario's."""
    if recipe.supervised is not None:
        said = {"system": prompt["system"], "user": prompt["user"]}
        return {"method": "supervised", **recipe.supervised.model_dump(), **said}
    return {"method": "rl", "steps": _steps_of(recipe), "conf": recipe.conf, "overrides": list(recipe.overrides)}


def _steps_of(recipe: Recipe) -> int:
    """As many as the recipe's own configuration says."""
    from agents.common.training.rl import configuration

    filled = [text.format(base_model="nano", train_data="train.jsonl") for text in recipe.overrides]
    return load_config(configuration(str(recipe.conf)), filled).trainer.steps


def newest_checkpoint(cache: Path) -> Path | None:
    """What a training that was killed had written last."""
    found = [path for path in cache.glob("stages/*/checkpoints/step_*") if is_model(path)]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def main() -> None:
    """Writes ``code/``, runs it, and leaves its model in ``output/model``; the base model, if it comes to nothing."""
    task = Task.from_environment()
    publish_model(task.base_model, task.output_model)
    recipes = [Recipe.model_validate(recipe) for recipe in json.loads(os.environ.get("AUTORL_RECIPES", "[]"))]
    if not recipes:
        raise ConfigError(f"scenario {task.scenario} has no reference recipe; its base model is what is handed in")
    with BenchClient.from_environment() as client:
        prompt = client.details(task.scenario)["prompt"]
    script = write_code(task.code, f"{task.scenario}: {recipes[0].name}", [stage_of(recipes[0], prompt)])
    seconds = task.deadline.seconds_left - CLOSING_SECONDS
    environment = script_environment(
        task,
        task.workspace / "trained",
        seconds,
        AUTORL_CACHE=str(task.workspace / "cache"),
        AUTORL_REPORT=str(task.workspace / "report.json"),
    )
    ended = run_script(
        ColdLauncher(),
        Start(script, task.code, environment, task.workspace / "train.log"),
        Limits(seconds, output=2**24),
        report=task.workspace / "report.json",
    )
    print(f"{ended.stop} after {ended.seconds:.0f} s, score of training {ended.report.get('score')}", flush=True)
    trained = task.workspace / "trained" if ended.succeeded else newest_checkpoint(task.workspace / "cache")
    if trained is None:
        raise AstuneError(f"the recipe came to nothing:\n{ended.log[-2000:]}")
    publish_model(trained, task.output_model)


if __name__ == "__main__":
    run_agent(main)
