"""Puts a scenario's base model and training data where its four fields say, or says what is missing."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from astune.errors import TaskError
from astune.files import atomic_folder, atomic_write
from autorl_bench.scenarios.problem import Problem
from autorl_bench.scenarios.schema import Scenario
from autorl_bench.scenarios.sources import Roots, load_problems, problem_id

_MODEL_FILES = ("*.safetensors", "*.jinja", "config.json", "generation_config.json", "tokenizer*.json", "vocab.json")


@dataclass(frozen=True, slots=True)
class Missing:
    """A file or folder that somebody has to fetch, and how."""

    path: Path
    how: str


def missing(scenario: Scenario, roots: Roots) -> list[Missing]:
    """What has to be fetched before the scenario can run; empty where everything is there or can be made."""
    found = []
    if scenario.base_model.how is not None and not _is_model(folder := roots.public / scenario.base_model_path):
        found.append(Missing(folder, roots.fill(scenario.base_model.how)))
    files = scenario.source.files
    for file in (files.train, files.test) if files is not None else ():
        if not (path := roots.vault / file.path).is_file():
            found.append(Missing(path, roots.fill(file.how)))
    return found


def prepare(scenario: Scenario, roots: Roots) -> None:
    """Copies the bundled base model and writes the training data, where they are not there yet.

    Raises:
        TaskError: lists every file that is missing and how to get it, or names a file of another version.
        CheckpointError: a folder cannot be written.
    """
    if lacking := missing(scenario, roots):
        lines = [f"\n  {entry.path}\n    {entry.how}" for entry in lacking]
        raise TaskError(f"scenario {scenario.id} needs files that are not here:{''.join(lines)}")
    model = roots.public / scenario.base_model_path
    if scenario.base_model.bundled is not None and not _is_model(model):
        _copy_bundled(scenario.base_model.bundled, model)
    write_train_data(scenario, roots)


def write_train_data(scenario: Scenario, roots: Roots) -> Path:
    """Writes the training data as JSONL in GSM8K's form: ``id``, ``question``, ``answer``, and the source's own fields.

    Questions stand without the scenario's prompt. The same scenario gives the same bytes; a file that holds them
    already is left alone.
    """
    path = roots.public / scenario.train_data_path
    problems = load_problems(scenario, "train", roots)
    text = "".join(f"{json.dumps(_record(scenario, problem), ensure_ascii=False)}\n" for problem in problems)
    if not path.is_file() or path.read_bytes() != text.encode():
        atomic_write(path, text)
    return path


def _record(scenario: Scenario, problem: Problem) -> dict[str, object]:
    identity = {"id": problem_id(scenario, problem)}
    return {**identity, "question": problem.question, "answer": problem.solution, **problem.extra}


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _copy_bundled(name: str, folder: Path) -> None:
    from astune.models.load import resolve_model_path

    source = resolve_model_path(name)
    with atomic_folder(folder) as scratch:
        for file in {file for pattern in _MODEL_FILES for file in source.glob(pattern)}:
            shutil.copyfile(file, scratch / file.name)
