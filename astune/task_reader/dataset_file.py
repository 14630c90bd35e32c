"""The ``dataset_file`` reader: one JSONL or Parquet file, one task a record."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from astune.errors import TaskError
from astune.task_reader.checks import check_tasks
from astune.task_reader.records import task_from_record
from astune.task_reader.types import Task


def read_dataset_file(
    path: str | Path, *, question_key: str = "question", answer_key: str = "answer", limit: int | None = None
) -> list[Task]:
    """Reads the tasks of a ``.jsonl`` or ``.parquet`` file.

    A record's ``id`` is its task's id; without one it is ``{file's stem}-{line}``.

    Args:
        path: the file.
        question_key: field that holds the problem.
        answer_key: field that holds the reference, alone or after ``#### `` as in GSM8K.
        limit: read no more than the first ``limit`` records.

    Raises:
        TaskError: names the file, the line and the remedy.
    """
    path = Path(path)
    tasks: list[Task] = []
    for line, record in itertools.islice(_reader_of(path)(path), limit):
        task = task_from_record(
            record,
            where=f"{path}, line {line}",
            line=line,
            default_id=f"{path.stem}-{line}",
            question_key=question_key,
            answer_key=answer_key,
        )
        tasks.append(task)
    return check_tasks(tasks, str(path))


def _reader_of(path: Path) -> Callable[[Path], Iterator[tuple[int, dict[str, Any]]]]:
    if path.is_dir():
        raise TaskError(f"{path} is a folder; name a file in it, or use task reader 'huggingface_dat_repo'")
    if not path.is_file():
        raise TaskError(f"{path}: no such file{near_names(path)}")
    readers = {".jsonl": _jsonl_records, ".ndjson": _jsonl_records, ".parquet": _parquet_records}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise TaskError(f"{path}: unknown kind of file {path.suffix!r}; a data set is a .jsonl or .parquet file")
    return reader


def near_names(path: Path) -> str:
    """Says what there is beside a ``path`` that does not exist, as the end of a message."""
    if not path.parent.is_dir():
        return f" (nor the folder {path.parent}; the working directory is {Path.cwd()})"
    names = sorted(entry.name for entry in path.parent.iterdir())
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.4)
    near = near or [name for name in names if name.endswith((".jsonl", ".parquet"))][:3]
    return f"; in {path.parent} there is {', '.join(near)}" if near else f" in {path.parent.absolute()}"


def _jsonl_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TaskError(f"{path}: cannot be read: {error.strerror}") from error
    for line, content in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if content.strip():
            yield line, _parse_line(content, f"{path}, line {line}")


def _parse_line(content: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise TaskError(f"{where}: byte {error.start + 1} is no UTF-8; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise TaskError(f"{where}: broken JSON at column {error.colno}: {error.msg}. Mend or remove it") from error
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond what Python reads
        raise TaskError(f"{where}: JSON that cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise TaskError(f"{where}: a record is a JSON object {{...}}; this is a {type(record).__name__}")
    return record


def _parquet_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise TaskError(f"{path}: reading Parquet needs pyarrow: pip install 'astune[hf]'") from error
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path}: no readable Parquet file: {error}") from error
    yield from enumerate(rows, start=1)
