"""The ``huggingface_dat_repo`` reader: a data set of the hub, or a folder that holds one."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from astune.errors import TaskError
from astune.task_reader.checks import check_tasks
from astune.task_reader.dataset_file import near_names, read_dataset_file
from astune.task_reader.hub import load_splits
from astune.task_reader.records import task_from_record
from astune.task_reader.types import Task

_SUFFIXES = (".parquet", ".jsonl")


def read_huggingface_dat_repo(
    path: str | Path,
    *,
    subset: str | None = "main",
    split: str = "train",
    question_key: str = "question",
    answer_key: str = "answer",
    limit: int | None = None,
) -> list[Task]:
    """Reads the tasks of one split.

    Args:
        path: a folder written by ``save_to_disk`` or by scripts/download_dataset.py, a folder that holds the split as
            Parquet or JSONL (``main/train-00000-of-00001.parquet``, ``train.jsonl``), or a name on the hub.
        subset: subset (configuration) of the data set; None where it has none. Folders without one ignore it.
        split: name of the split.
        question_key: field that holds the problem.
        answer_key: field that holds the reference.
        limit: read no more than the first ``limit`` records.

    Raises:
        TaskError: names the data set, the row and the remedy.
    """
    keys = {"question_key": question_key, "answer_key": answer_key}
    folder = Path(path)
    if not folder.exists():
        if folder.is_absolute() or str(path).startswith((".", "~")) or str(path).count("/") > 1:
            raise TaskError(f"{path}: no such folder{near_names(folder)}")
        rows = _pick_split(load_splits(str(path), subset), split, str(path))
        return _tasks_of_rows(rows, str(path), split, limit, keys)
    if not folder.is_dir():
        raise TaskError(f"{path} is a file; read it with task reader 'dataset_file'")
    if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return _tasks_of_rows(_saved_rows(folder, split), str(path), split, limit, keys)
    return _tasks_of_files(_files_of_split(folder, subset, split), f"{path}, split {split!r}", limit, keys)


def _saved_rows(folder: Path, split: str) -> Iterable[Mapping[str, Any]]:
    """Rows of a folder that ``save_to_disk`` wrote: of its split, or all where it has none."""
    import datasets

    try:
        saved = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise TaskError(f"{folder}: a folder of save_to_disk that cannot be read: {error}") from error
    return _pick_split(saved, split, str(folder)) if isinstance(saved, datasets.DatasetDict) else saved


def _pick_split(splits: Mapping[str, Any], split: str, source: str) -> Iterable[Mapping[str, Any]]:
    if split not in splits:
        raise TaskError(f"{source}: no split {split!r}; it has {', '.join(map(repr, splits))}")
    rows: Iterable[Mapping[str, Any]] = splits[split]
    return rows


def _tasks_of_rows(
    rows: Iterable[Mapping[str, Any]], source: str, split: str, limit: int | None, keys: Mapping[str, str]
) -> list[Task]:
    name = Path(source).name
    tasks: list[Task] = []
    for line, record in enumerate(itertools.islice(rows, limit), start=1):
        where = f"{source}, split {split!r}, row {line}"
        tasks.append(task_from_record(record, where=where, line=line, default_id=f"{name}-{split}-{line}", **keys))
    return check_tasks(tasks, f"{source}, split {split!r}")


def _files_of_split(folder: Path, subset: str | None, split: str) -> list[Path]:
    """Files named after the split (``train.jsonl``, ``train-00000-of-00002.parquet``) or in a folder that is."""
    root = folder / subset if subset and (folder / subset).is_dir() else folder
    files = sorted(file for file in root.rglob("*") if file.suffix in _SUFFIXES and not file.name.startswith("."))
    found = [file for file in files if file.stem.split("-")[0] == split or file.parent.name == split]
    if found:
        suffix = found[0].suffix  # one form where a folder holds both
        return [file for file in found if file.suffix == suffix and file.parent == found[0].parent]
    if not files:
        raise TaskError(f"{root}: no .parquet or .jsonl file in this folder, and nothing that save_to_disk wrote")
    splits = sorted({file.stem.split("-")[0] for file in files})
    near = difflib.get_close_matches(split, splits, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise TaskError(f"{root}: no split {split!r}; its files are named {', '.join(splits)}{hint}")


def _tasks_of_files(files: list[Path], source: str, limit: int | None, keys: Mapping[str, str]) -> list[Task]:
    tasks: list[Task] = []
    for file in files:
        remaining = None if limit is None else limit - len(tasks)
        if remaining is None or remaining > 0:
            tasks += read_dataset_file(file, limit=remaining, **keys)
    return check_tasks(tasks, source)
