"""From a path or URL to an engine: SQLite with its pragmas, PostgreSQL through psycopg, and where they differ."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from autorl_bench.store.errors import StoreError
from autorl_bench.store.tables import Base

#: How long a writer waits for another, in seconds.
BUSY_TIMEOUT = 30

#: One number for each thing that only one process may do at a time on a server.
LOCK_MIGRATE, LOCK_LEASE = 0x4152_4C01, 0x4152_4C02

Clock = Callable[[], float]


def store_url(where: str | Path) -> URL:
    """A file's path, ``sqlite:///file`` or ``postgresql://user@host/name`` as a URL with its driver.

    Raises:
        StoreError: another database, or no file.
    """
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(Path(where).absolute()))
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise StoreError(
            "the store's URL cannot be read; write a file's path or postgresql://user@host/name"
        ) from error
    backend = url.get_backend_name()
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise StoreError(f"store {shown(url)}: {backend} is not supported; use a file (SQLite) or postgresql://")
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise StoreError(f"store {shown(url)}: several processes share a store, so it needs a file: sqlite:///path")
    return url.set(drivername="sqlite", database=str(Path(url.database).absolute()))


def shown(url: URL) -> str:
    """The URL for messages, without its password."""
    return url.database or "" if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def sqlite_tables(url: URL) -> set[str]:
    """Tables of an SQLite file, read without changing a byte of it; none where it doesn't exist yet.

    Raises:
        StoreError: it is no database, or cannot be read.
    """
    path = Path(url.database or "")
    if not path.exists():
        return set()
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT)) as connection:
            rows = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
            return {name for (name,) in rows}
    except sqlite3.Error as error:
        raise StoreError(f"store {path} cannot be read as an SQLite database ({error}); name another file") from error


def make_engine(url: URL, *, foreign_keys: bool = True) -> Engine:
    """An engine whose transactions begin when SQLAlchemy says so.

    ``foreign_keys=False`` is for migrations: SQLite changes a table by writing it anew, and would take rows
    that refer to it along.
    """
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # the driver's own idea of when to begin leaves out DDL
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        connection.execute("PRAGMA synchronous = FULL")  # what was answered survives a power cut, too

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A reader that later turns writer can fail at once ("database is locked"): writers say so from the start.
        reads = connection.get_execution_options().get("reads", False)
        connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if reads else 'OFF'}")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def use_wal(engine: Engine) -> None:
    """Lets readers read while one writes; stays so for the file."""
    if engine.dialect.name != "sqlite":
        return
    with closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        if cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            return
        for delay in (0.01, 0.1, 1.0, None):  # another process that opens the same new file holds it for an instant
            try:
                cursor.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if delay is None:
                    raise
                time.sleep(delay)


def reader(engine: Engine) -> Engine:
    """The same engine for transactions that see one moment of the store and change nothing."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(reads=True)
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def server_time(session: Session) -> float:
    """Now: the server's clock where there is one, so that machines with different clocks agree on a lease."""
    if _dialect(session) == "sqlite":
        return time.time()
    return float(session.scalars(text("SELECT extract(epoch FROM clock_timestamp())")).one())


def only_one(session: Session, lock: int) -> None:
    """Waits until no other transaction holds ``lock``, then holds it to its end. SQLite has one writer anyway."""
    if _dialect(session) == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})


def insert_if_absent(session: Session, table: type[Base], **values: Any) -> Any:
    """Inserts a row unless one with the same key is there: its primary key (of one column), or None."""
    insert = sqlite.insert if _dialect(session) == "sqlite" else postgresql.insert
    (key,) = inspect(table).primary_key
    return session.execute(insert(table).values(**values).on_conflict_do_nothing().returning(key)).scalar()


def _dialect(session: Session) -> str:
    return session.get_bind().dialect.name
