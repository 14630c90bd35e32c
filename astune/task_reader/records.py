"""From one record of a data set to a task; GSM8K's own form is understood."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from astune.errors import TaskError
from astune.task_reader.types import Task

#: Before the reference, at the end of a GSM8K solution.
MARKER = "####"

_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?", re.ASCII)


def task_from_record(
    record: Mapping[str, Any], *, where: str, line: int, default_id: str, question_key: str, answer_key: str
) -> Task:
    """Makes the task of one record.

    ``answer`` is the reference alone, without thousands commas; ``metadata`` keeps it as written (``reference``), the
    worked solution where there is one, the line, and the record's other fields (``record``).

    Args:
        where: file and line, for messages.
        line: number of the line or row, from 1.
        default_id: the id of a record that has no ``id``.

    Raises:
        TaskError: question or answer is missing, empty or of another type, or the solution has no reference.
    """
    question = _text(record, question_key, where, "question_key")
    solution = _text(record, answer_key, where, "answer_key")
    reference = reference_of(solution, where)
    task_id = record.get("id", default_id)
    if isinstance(task_id, bool) or not isinstance(task_id, str | int) or not str(task_id).strip():
        raise TaskError(f"{where}: its id is {task_id!r}; an id is a text or an integer")
    metadata: dict[str, Any] = {"line": line, "reference": reference}
    if solution.strip() != reference:
        metadata["solution"] = solution
    if others := {key: value for key, value in record.items() if key not in (question_key, answer_key, "id")}:
        metadata["record"] = others
    answer = reference.replace(",", "") if _THOUSANDS.fullmatch(reference) else reference
    return Task(str(task_id), question, answer, [{"role": "user", "content": question}], metadata)


def reference_of(solution: str, where: str) -> str:
    """Returns the reference in an answer field: what follows the last ``####``, or the field where it is one line.

    Raises:
        TaskError: a worked solution without ``####``, or nothing after it.
    """
    _, marker, after = solution.rpartition(MARKER)
    reference = after.strip()
    if marker and not reference:
        raise TaskError(f"{where}: nothing follows '#### ' in its answer; write the reference there")
    if not marker and ("\n" in reference or "<<" in reference):
        raise TaskError(f"{where}: its answer is a worked solution without '#### '; put the reference after one")
    return reference


def _text(record: Mapping[str, Any], key: str, where: str, option: str) -> str:
    value = record.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and value.strip():
        return value
    if key not in record:
        fields = ", ".join(map(repr, record)) or "none"
        raise TaskError(f"{where}: no field {key!r} (its fields: {fields}); name the right one as {option}")
    kind = "empty" if value is None or isinstance(value, str) else f"a {type(value).__name__}, not a text"
    raise TaskError(f"{where}: its field {key!r} is {kind}")
