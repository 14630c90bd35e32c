"""``self_refine_log.jsonl``: one row a sample, appended so that no reader ever meets half a row."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from astune.errors import CheckpointError
from astune.files import storage_errors
from astune.refine.types import Attempt, History, Round

LOG_NAME = "self_refine_log.jsonl"
_LOCK_SECONDS = 60.0
#: Line ends that JSON leaves as they are.
_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class LogRow:
    """What is kept of one sample of a batch.

    Attributes:
        batch: number of the batch, as the console shows it.
        sample_idx: row of the batch (of this process).
        timestamp: when the batch ended, ISO 8601, UTC.
        was_correct_at_t1: whether the first answer was correct; None where it could not be graded.
        is_correct_at_t2: the same for the answer that the row ended with.
        transition: ``i→c``, ``i→i``, ``c→c`` or ``c→i``; None where either could not be graded.
        question, original, critique, refined, solution: the texts; critique and refined are the last round's, None
            where there was none.
        refine_history: the rounds, see :func:`round_record`.
        tokens: sampled tokens by role, as far as they are known.
        stopped: why the row took no further round; empty for a row that was not refined.
        process: rank of the process that the row belongs to.
    """

    batch: int
    sample_idx: int
    timestamp: str
    was_correct_at_t1: bool | None
    is_correct_at_t2: bool | None
    transition: str | None
    question: str
    original: str
    critique: str | None
    refined: str | None
    solution: str | None
    refine_history: list[dict[str, Any]]
    tokens: dict[str, int]
    stopped: str = ""
    process: int = 0


def transition_of(before: bool | None, after: bool | None) -> str | None:
    """``i→c`` and the like; None where either is unknown."""
    if before is None or after is None:
        return None
    return f"{'c' if before else 'i'}→{'c' if after else 'i'}"


def log_row(
    batch: int,
    row: int,
    question: str,
    first: Attempt,
    history: History | None,
    *,
    solution: str | None = None,
    now: datetime | None = None,
    process: int = 0,
) -> LogRow:
    """The row of one sample; ``history`` is None for one that was not refined."""
    after = first if history is None else history.final
    rounds = [] if history is None else history.rounds
    untouched = {"answer": first.sample.tokens, "critique": 0, "refine": 0}
    return LogRow(
        batch=batch,
        sample_idx=row,
        timestamp=(now or datetime.now(UTC)).isoformat(timespec="milliseconds"),
        was_correct_at_t1=first.grade.correct,
        is_correct_at_t2=after.grade.correct,
        transition=transition_of(first.grade.correct, after.grade.correct),
        question=question,
        original=first.sample.text,
        critique=next((done.critique.text for done in reversed(rounds) if done.critique is not None), None),
        refined=next((done.refined.sample.text for done in reversed(rounds) if done.refined is not None), None),
        solution=solution,
        refine_history=[round_record(done) for done in rounds],
        tokens=untouched if history is None else history.completion_tokens,
        stopped="" if history is None else history.stopped,
        process=process,
    )


def round_record(done: Round) -> dict[str, Any]:
    """One round as plain data: texts, the critic's verdict, the reward and what was cut."""
    refined = done.refined
    return {
        "round": done.number,
        "critique": None if done.critique is None else done.critique.text,
        "critique_shown": done.shown,
        "critique_shortened": done.shortened,
        "verdict": done.verdict,
        "refined": None if refined is None else refined.sample.text,
        "reward": None if refined is None else refined.grade.reward,
        "correct": None if refined is None else refined.grade.correct,
        "truncated": None if refined is None else refined.sample.truncated,
    }


class RefineLog:
    """Appends rows to one file; several processes may append to the same one.

    The rows of a call are one ``write`` of whole lines to a file opened for appending, made under a file lock
    (``{name}.lock`` beside it). Where an earlier writer died within a write (a full disk, a power cut), the next
    one ends its torn line first, so that only that line is lost.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = FileLock(f"{self.path}.lock")

    def append(self, rows: Sequence[LogRow]) -> None:
        """Appends ``rows``; nothing is written where there are none.

        Raises:
            CheckpointError: the folder is read-only or full, or another process holds the lock for a minute.
        """
        if not rows:
            return
        text = "".join(_line(asdict(row)) for row in rows)
        # Half of a surrogate pair can stand in sampled text, and not in UTF-8.
        data = text.encode(errors="backslashreplace")
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with self._lock.acquire(timeout=_LOCK_SECONDS):
                    self._append(data)
            except Timeout as error:
                raise CheckpointError(
                    f"cannot write {self.path}: another process has held {self._lock.lock_file} for "
                    f"{_LOCK_SECONDS:.0f} s; end it, or give this run a log of its own"
                ) from error

    def _append(self, data: bytes) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            data = b"\n" + data if torn else data
            written = os.write(descriptor, data)
            if written != len(data):
                # No room for all of it: a part of the rows must not be taken for the batch.
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)


def _line(row: dict[str, Any]) -> str:
    """A row as one line, for readers that split at Unicode's line ends (``str.splitlines``), too."""
    return json.dumps(row, ensure_ascii=False).translate(_LINE_ENDS) + "\n"


def read_log(path: str | Path) -> Iterator[dict[str, Any]]:
    """The rows of a log, in order; a line that a crash has torn is passed over."""
    with Path(path).open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row
