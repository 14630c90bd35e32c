"""Reflexion's episodic memory (Shinn et al. 2023, arXiv:2303.11366): lessons from failed attempts, kept across runs.

One SQLite file, bounded: the oldest lesson makes room for a new one. It is searched by recency, by similarity (the
BM25 rank of SQLite's full-text index over the questions), and by both.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from astune.errors import ConfigError, UserError

#: Marks the file as ours ("ASTM"), and says which layout it has.
APPLICATION_ID, SCHEMA_VERSION = 0x4153544D, 1

#: Damping of reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009).
_FUSION = 60
_MAX_QUERY_WORDS = 64

_SCHEMA = """
CREATE TABLE lesson (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    question TEXT NOT NULL, attempt TEXT NOT NULL, text TEXT NOT NULL, score REAL, created REAL NOT NULL
);
CREATE VIRTUAL TABLE lesson_index USING fts5(question, content='lesson', content_rowid='id');
CREATE TRIGGER lesson_added AFTER INSERT ON lesson BEGIN
    INSERT INTO lesson_index(rowid, question) VALUES (new.id, new.question);
END;
CREATE TRIGGER lesson_removed AFTER DELETE ON lesson BEGIN
    INSERT INTO lesson_index(lesson_index, rowid, question) VALUES ('delete', old.id, old.question);
END;
"""


class MemoryFileError(UserError):
    """A memory file that cannot be used. It is left as it was."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What was learnt from one attempt. ``created`` is in seconds since 1970; ``score`` None where there was none."""

    question: str
    attempt: str
    text: str
    score: float | None
    created: float


class EpisodicMemory:
    """Lessons in a SQLite file. Use as a context manager, or ``close`` it.

    Several processes may use one file. Within a process it belongs to the thread that opened it.

    Args:
        path: the file; made if it is not there. None keeps the memory in this process alone.
        capacity: most lessons kept; the oldest go first. A smaller one than last time drops the surplus at the next
            ``add``.
        clock: seconds since 1970.

    Raises:
        MemoryFileError: the file is none of ours, of another version, or cannot be opened; nothing in it changes.
        ConfigError: a capacity below 1.
    """

    def __init__(
        self, path: Path | None = None, *, capacity: int = 1000, clock: Callable[[], float] = time.time
    ) -> None:
        if capacity < 1:
            raise ConfigError(f"memory capacity is {capacity}: give at least 1")
        self.path = path
        self.capacity = capacity
        self._clock = clock
        self._connection = _open(path)

    def __enter__(self) -> EpisodicMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        [(count,)] = self._connection.execute("SELECT count(*) FROM lesson")
        return int(count)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def add(self, question: str, attempt: str, text: str, score: float | None = None) -> None:
        """Keeps a lesson; beyond the capacity the oldest go. Both happen or neither.

        Raises:
            MemoryFileError: the file cannot be written.
        """
        values = (question, attempt, text, score, self._clock())
        with _explained(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(
                "INSERT INTO lesson(question, attempt, text, score, created) VALUES (?, ?, ?, ?, ?)", values
            )
            self._connection.execute(
                "DELETE FROM lesson WHERE id NOT IN (SELECT id FROM lesson ORDER BY id DESC LIMIT ?)",
                (self.capacity,),
            )

    def recent(self, limit: int) -> list[Lesson]:
        """The latest lessons, newest first."""
        return self._lessons(self._recent_ids(limit))

    def similar(self, question: str, limit: int) -> list[Lesson]:
        """Lessons on questions that share words with this one: best match first, the newer of equals first."""
        return self._lessons(self._similar_ids(question, limit))

    def recall(self, question: str, limit: int, *, shared: float = 0.5) -> list[Lesson]:
        """Lessons on similar questions, ranked by similarity and recency together (reciprocal rank fusion).

        Args:
            question: what is to be answered now.
            limit: most lessons.
            shared: the least share of the question's words that a lesson's question has to have. Words that every
                question has ("how", "many") make none relevant by themselves.
        """
        words = _words(question)
        relevant = [
            lesson
            for lesson in self._similar_ids(question, self.capacity)
            if len(words & _words(self._question(lesson))) >= shared * len(words)
        ]
        newest_first = {lesson: rank for rank, lesson in enumerate(sorted(relevant, reverse=True))}
        fused = {
            lesson: 1 / (_FUSION + rank) + 1 / (_FUSION + newest_first[lesson]) for rank, lesson in enumerate(relevant)
        }
        ranked = sorted(relevant, key=lambda lesson: (-fused[lesson], -lesson))
        return self._lessons(ranked[: max(0, limit)])

    def _recent_ids(self, limit: int) -> list[int]:
        rows = self._connection.execute("SELECT id FROM lesson ORDER BY id DESC LIMIT ?", (max(0, limit),))
        return [row[0] for row in rows]

    def _similar_ids(self, question: str, limit: int) -> list[int]:
        words = sorted(_words(question))[:_MAX_QUERY_WORDS]
        if not words:
            return []
        query = " OR ".join(f'"{word}"' for word in words)  # quoted: AND and NEAR are words here, not operators
        rows = self._connection.execute(
            "SELECT rowid FROM lesson_index WHERE lesson_index MATCH ? ORDER BY bm25(lesson_index), rowid DESC LIMIT ?",
            (query, max(0, limit)),
        )
        return [row[0] for row in rows]

    def _question(self, lesson: int) -> str:
        row = self._connection.execute("SELECT question FROM lesson WHERE id = ?", (lesson,)).fetchone()
        return "" if row is None else str(row[0])

    def _lessons(self, ids: list[int]) -> list[Lesson]:
        found = []
        for one in ids:
            row = self._connection.execute(
                "SELECT question, attempt, text, score, created FROM lesson WHERE id = ?", (one,)
            ).fetchone()
            if row is not None:  # another process may have made room in between
                found.append(Lesson(*row))
        return found


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


def _open(path: Path | None) -> sqlite3.Connection:
    if path is None:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        _create_once(connection)
        return connection
    with _explained(path):
        if path.exists() and path.stat().st_size > 0:
            _check(path)
        connection = sqlite3.connect(path, timeout=30.0, isolation_level=None)
        try:
            _create_once(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _check(path: Path) -> None:
    """Looks at the file without the right to write, so that a foreign one stays as it is."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30.0)) as connection:
        [(application,)] = connection.execute("PRAGMA application_id")
        [(version,)] = connection.execute("PRAGMA user_version")
        [(tables,)] = connection.execute("SELECT count(*) FROM sqlite_master")
    if application != APPLICATION_ID and tables:
        raise MemoryFileError(f"{path} is a database, but no memory of lessons: name another file")
    if application == APPLICATION_ID and version != SCHEMA_VERSION:
        raise MemoryFileError(
            f"memory file {path} has version {version}, this release reads version {SCHEMA_VERSION}; it was not "
            "touched: use the release that wrote it, or name another file to start an empty memory"
        )


def _create_once(connection: sqlite3.Connection) -> None:
    """Makes the tables in a new file; of several processes that try at once, one does."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        [(application,)] = connection.execute("PRAGMA application_id")
        if application != APPLICATION_ID:
            for statement in _statements(_SCHEMA):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: ``executescript`` would end the transaction."""
    statement = ""
    for line in script.strip().splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def _explained(path: Path | None) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        what = (
            "is not a SQLite database, or is damaged" if "not a database" in str(error) else f"cannot be used: {error}"
        )
        raise MemoryFileError(f"memory file {path} {what}; name another file, or repair this one") from error
    except OSError as error:
        raise MemoryFileError(f"memory file {path} cannot be opened: {error.strerror or error}") from error
