"""Brings a store to this version's schema, all steps in one transaction, or refuses it and changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from autorl_bench.store.database import LOCK_MIGRATE, make_engine, shown, sqlite_tables
from autorl_bench.store.errors import StoreError

#: Holds the schema's version. Its name tells our stores from other databases that use alembic.
VERSION_TABLE = "autorl_bench_version"

_ALEMBIC = threading.Lock()  # its migration context is a global of the process


def versions() -> Sequence[str]:
    """All versions of the schema, oldest first."""
    script = ScriptDirectory.from_config(_config())
    return [revision.revision for revision in script.walk_revisions()][::-1]


def migrate(url: URL, to: str = "head") -> None:
    """Creates the schema, or upgrades an older one with what it holds.

    Raises:
        StoreError: something else's database, a store of a version unknown here, or one that cannot be reached.
    """
    if url.get_backend_name() == "sqlite":
        _check(sqlite_tables(url), None, url)  # before a connection that may write the file's header
    engine = make_engine(url, foreign_keys=False)
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK_MIGRATE})
            _check(set(inspect(connection).get_table_names()), connection, url)
            with _ALEMBIC:
                command.upgrade(_config(connection), to)
            _check_references(connection, url)
    except SQLAlchemyError as error:
        raise StoreError(f"store {shown(url)} cannot be opened: {_first_line(error)}") from error
    finally:
        engine.dispose()


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection, "version_table": VERSION_TABLE})
    config.set_main_option("script_location", "autorl_bench.store:migrations")
    return config


def _check(tables: set[str], connection: Connection | None, url: URL) -> None:
    """Refuses a database that is not a store of this version or an older one."""
    if not tables:
        return
    if VERSION_TABLE not in tables:
        raise StoreError(
            f"{shown(url)} is another program's database (tables: {', '.join(sorted(tables)[:5])}); "
            "name an empty one or a new file for the store"
        )
    if connection is None:
        return
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars().all()  # noqa: S608
    known = versions()
    if len(found) != 1 or found[0] not in known:
        raise StoreError(
            f"store {shown(url)} was written by another version of AutoRL-Bench (schema {', '.join(found) or 'none'}; "
            f"this version reads up to {known[-1]}); use that version or another store. Nothing was changed"
        )


def _check_references(connection: Connection, url: URL) -> None:
    """Refuses to go on with rows that refer to nothing: SQLite doesn't look while tables are written anew."""
    if connection.dialect.name != "sqlite":
        return
    found = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if found is not None:
        raise StoreError(
            f"store {shown(url)}: after the upgrade, rows of {found[0]} would refer to nothing (of {found[2]}); "
            "nothing was changed: restore a copy, or begin a new store"
        )


def _first_line(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
