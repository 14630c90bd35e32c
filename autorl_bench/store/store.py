"""The store: one database, opened by path or URL, used in transactions that happen whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import URL, Engine
from sqlalchemy.exc import DataError, IntegrityError, InternalError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from autorl_bench.store.database import Clock, make_engine, reader, server_time, shown, store_url, use_wal
from autorl_bench.store.errors import Conflict, RecordError, StoreError
from autorl_bench.store.ledger import Ledger
from autorl_bench.store.migrate import migrate
from autorl_bench.store.notebook import Notebook
from autorl_bench.store.queue import Queue
from autorl_bench.store.results import Results
from autorl_bench.store.runs import Runs
from autorl_bench.store.submissions import Submissions


@dataclass(frozen=True)
class Transaction:
    """All that can be asked of the store, within one transaction that began at ``now``."""

    session: Session
    now: float

    @property
    def runs(self) -> Runs:
        """Scenarios, agents and runs."""
        return Runs(self.session, self.now)

    @property
    def submissions(self) -> Submissions:
        """Submissions and dev queries."""
        return Submissions(self.session, self.now)

    @property
    def results(self) -> Results:
        """Evaluations."""
        return Results(self.session, self.now)

    @property
    def queue(self) -> Queue:
        """Jobs for workers."""
        return Queue(self.session, self.now)

    @property
    def notebook(self) -> Notebook:
        """What agents say they tried."""
        return Notebook(self.session, self.now)

    @property
    def ledger(self) -> Ledger:
        """Flags, measurements, events."""
        return Ledger(self.session, self.now)


class Store:
    """An open store; safe to share between threads, opened anew in each process.

    Use :func:`open_store`. ``clock`` gives the time in seconds since the epoch; by default the server's, or this
    machine's for SQLite.
    """

    def __init__(self, url: URL, engine: Engine, clock: Clock | None = None):
        self._url = url
        self._engine = engine
        self._reader = reader(engine)
        self._clock = clock

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that is kept when the block ends, and undone when it raises. SQLite has one writer: be brief.

        Raises:
            Conflict: the block's changes contradict what the store holds.
            StoreError: the store is gone, or busy for too long.
        """
        with self._translated(), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield self._transaction(session)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that sees one moment of the store; it cannot write, and waits for no writer.

        Raises:
            StoreError: the store is gone, or something tried to write.
        """
        with self._translated(), Session(self._reader) as session, session.begin():
            yield self._transaction(session)

    def close(self) -> None:
        """Closes all connections; the store can't be used any more."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({shown(self._url)!r})"

    def _transaction(self, session: Session) -> Transaction:
        session.connection()  # begins: on SQLite a writer has its turn from here, so the time is read after that
        return Transaction(session, self._clock() if self._clock else server_time(session))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise Conflict(f"store {shown(self._url)} refuses a record: {error.orig}") from error
        except DataError as error:
            raise RecordError(f"store {shown(self._url)} cannot hold a value: {error.orig}") from error
        except (OperationalError, InternalError) as error:
            raise StoreError(f"store {shown(self._url)}: {error.orig}; nothing of this request was changed") from error
        except PoolTimeout as error:
            raise StoreError(f"store {shown(self._url)} is asked too much at once; ask again") from error
        except StatementError as error:
            if isinstance(error.orig, RecordError):
                raise error.orig from None  # a column's own words are clearer with no SQL around them
            raise


def open_store(where: str | Path, *, clock: Clock | None = None) -> Store:
    """Opens a store and brings its schema up to date; a file that isn't there is made.

    Args:
        where: a file's path, ``sqlite:///file``, or ``postgresql://user:password@host/name``.
        clock: seconds since the epoch, for tests.

    Raises:
        StoreError: not a store, one of an unknown version, or one that can't be reached or written.
    """
    url = store_url(where)
    if url.get_backend_name() == "sqlite":
        _make_folder(Path(url.database or ""))
    migrate(url)
    engine = make_engine(url)
    try:
        use_wal(engine)
    except OperationalError as error:
        raise StoreError(f"store {shown(url)} cannot be written: {error.orig}") from error
    return Store(url, engine, clock)


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"store {path}: its folder cannot be made ({error.strerror}); name another file") from error
    if path.is_dir():
        raise StoreError(f"store {path} is a folder; name a file in it, such as {path / 'store.db'}")
