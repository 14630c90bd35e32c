"""Reads the tasks that a configuration names: one function a type, and the split of training and held-out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from astune.errors import ConfigError, TaskError
from astune.task_reader.checks import check_tasks
from astune.task_reader.dataset_file import read_dataset_file
from astune.task_reader.huggingface_dat_repo import read_huggingface_dat_repo
from astune.task_reader.types import Task

if TYPE_CHECKING:
    from astune.config.schema import Sources, TaskReader


@dataclass(frozen=True, slots=True)
class TaskSplits:
    """Tasks to train on, and tasks that are never trained on."""

    train: list[Task]
    heldout: list[Task]


def read_tasks(settings: TaskReader) -> list[Task]:
    """Returns the training tasks of ``settings`` (``astune.task_reader``), without holding any out.

    Raises:
        ConfigError: the type's own options are missing.
        TaskError: the source cannot be used.
    """
    return _read(settings.type, settings)


def read_splits(settings: TaskReader, n_heldout: int) -> TaskSplits:
    """Returns training tasks and at most ``n_heldout`` held-out ones that share no id and no question with them.

    Under ``auto`` the held-out tasks are nano_gsm's or the hub data set's test split, or, of a file, the
    ``fraction`` whose id hashes lowest: the same in every run, wherever in the file a record stands.

    Raises:
        ConfigError: the type's own options are missing.
        TaskError: a source cannot be used, or nothing is left to train on or to hold out.
    """
    heldout = settings.heldout
    train = read_tasks(settings)
    if heldout.type == "auto" and settings.type == "dataset_file":
        train, held = _hold_out(train, heldout.fraction)
        _require(train and held, f"{len(train) + len(held)} tasks are too few to hold {heldout.fraction:g} of them out")
        return TaskSplits(train, held[:n_heldout])
    held = _read_heldout(settings, n_heldout)
    seen_ids = {task.task_id for task in held}
    seen_questions = {task.main_query for task in held}
    train = [task for task in train if task.task_id not in seen_ids and task.main_query not in seen_questions]
    _require(train, "every training task is a held-out one, too: name two different sources")
    return TaskSplits(train, held[:n_heldout])


def _read(kind: str, source: Sources) -> list[Task]:
    match kind:
        case "dataset_file":
            return _read_file(source)
        case "huggingface_dat_repo":
            return _read_hub(source, source.huggingface_dat_repo.split)
        case "nano_gsm":
            return _read_nano_gsm(source, source.nano_gsm.n_train, "train")
    known = "dataset_file, huggingface_dat_repo, nano_gsm"
    raise ConfigError(f"astune.task_reader.type: {kind!r} is not a type of this release; known are {known}")


def _read_heldout(settings: TaskReader, n_heldout: int) -> list[Task]:
    heldout = settings.heldout
    auto = heldout.type == "auto"
    kind, source = (settings.type, settings) if auto else (heldout.type, heldout)
    if kind == "nano_gsm":
        return _read_nano_gsm(source, n_heldout, "test")
    if kind == "huggingface_dat_repo" and auto:
        return _read_hub(source, "test")
    return _read(kind, source)


def _read_file(source: Sources) -> list[Task]:
    options = source.dataset_file
    if options.path is None:
        raise ConfigError("astune.task_reader.dataset_file.path: no file is named; set it to a .jsonl or .parquet file")
    return read_dataset_file(options.path, question_key=options.question_key, answer_key=options.answer_key)


def _read_hub(source: Sources, split: str) -> list[Task]:
    options = source.huggingface_dat_repo
    return read_huggingface_dat_repo(
        options.path,
        subset=options.subset,
        split=split,
        question_key=options.question_key,
        answer_key=options.answer_key,
    )


def _read_nano_gsm(source: Sources, n: int, split: Literal["train", "test"]) -> list[Task]:
    from astune.task_reader.nano_gsm import read_nano_gsm

    options = source.nano_gsm
    tasks = read_nano_gsm(n, options.seed, split, options.families, options.largest)
    return check_tasks(tasks, f"nano_gsm, {split}")


def _hold_out(tasks: list[Task], fraction: float) -> tuple[list[Task], list[Task]]:
    """Splits by the hash of the id: ``round(fraction * n)`` tasks, at least one, kept in the order of the file."""
    by_hash = sorted(tasks, key=lambda task: hashlib.sha256(task.task_id.encode()).digest())
    chosen = {task.task_id for task in by_hash[: max(1, round(fraction * len(tasks)))]}
    return [t for t in tasks if t.task_id not in chosen], [t for t in tasks if t.task_id in chosen]


def _require(condition: object, message: str) -> None:
    if not condition:
        raise TaskError(f"astune.task_reader: {message}")
