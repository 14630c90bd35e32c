"""Opening: a new store, an older one with what it holds, and everything that is refused without a change."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from autorl_bench.store import RunState, StoreError, open_store
from autorl_bench.store.database import make_engine, store_url
from autorl_bench.store.migrate import VERSION_TABLE, migrate, versions
from autorl_bench.store.tables import Base
from tests.autorl_bench.store.scenes import new_run

HERE = Path(__file__).parent


def connected(url: str, use: Callable[[Connection], Any]) -> Any:
    engine = make_engine(store_url(url))
    try:
        with engine.begin() as connection:
            return use(connection)
    finally:
        engine.dispose()


def execute(url: str, *statements: str) -> None:
    connected(url, lambda connection: [connection.exec_driver_sql(statement) for statement in statements])


def rows(connection: Connection) -> dict[str, list[dict]]:
    tables = set(inspect(connection).get_table_names()) - {VERSION_TABLE}
    found = {table: connection.execute(text(f"SELECT * FROM {table}")).mappings() for table in tables}
    return {table: sorted((dict(row) for row in found[table]), key=str) for table in tables}


def older(url: str, version: str) -> None:
    """A store of an older version, filled by statements that were written when it was the newest."""
    migrate(store_url(url), version)
    execute(url, *(HERE / f"populated_{version}.sql").read_text().split(";\n")[:-1])


def test_a_reopened_store_holds_what_was_written(bare_url: str):
    with open_store(bare_url) as store, store.write() as tx:
        made = new_run(tx, "r")
    with open_store(bare_url) as store, store.read() as tx:
        assert tx.runs.get("r") == made


def test_the_migrations_make_the_tables_of_the_code(bare_url: str):
    open_store(bare_url).close()

    def differences(connection: Connection) -> list:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)

    assert connected(bare_url, differences) == []


@pytest.mark.parametrize("version", versions()[:-1])
def test_an_older_store_is_upgraded_with_all_that_it_holds(bare_url: str, version: str):
    older(bare_url, version)
    before = connected(bare_url, rows)
    assert all(before.values()), "every table of the older version holds something"
    open_store(bare_url).close()
    after = connected(bare_url, rows)
    kept = {
        table: [{name: new[name] for name in old} for old, new in zip(before[table], after[table], strict=True)]
        for table in before
    }
    assert kept == before


def test_an_upgraded_store_is_read_and_written_like_a_new_one(bare_url: str):
    older(bare_url, "0001")
    with open_store(bare_url) as store, store.write() as tx:
        score = tx.results.score("old")
        assert score is not None and score.evaluation.accuracy == 50.0
        assert (tx.runs.get("old").state, tx.runs.get("old").draw) == (RunState.SCORED, "old")
        assert tx.submissions.dev_queries("old")[0].experiment_id is None
        lease = tx.queue.lease(["twin"], worker="w", seconds=1)
        assert lease is not None and lease.job.payload == {"n": 2}
        new_run(tx, "new")


def test_a_store_of_a_newer_version_is_refused_and_not_changed(bare_url: str):
    open_store(bare_url).close()
    execute(bare_url, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    before = connected(bare_url, rows)
    with pytest.raises(StoreError, match=rf"another version.*schema 9999.*up to {versions()[-1]}"):
        open_store(bare_url)
    assert connected(bare_url, rows) == before


def test_another_programs_database_is_refused_and_not_changed(bare_url: str):
    execute(bare_url, "CREATE TABLE invoices (id INTEGER)")
    with pytest.raises(StoreError, match="another program's database .tables: invoices"):
        open_store(bare_url)
    assert connected(bare_url, rows) == {"invoices": []}


def test_a_refused_file_keeps_every_byte(tmp_path: Path):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE invoices (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(StoreError):
        open_store(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, " * 100)
    with pytest.raises(StoreError, match="notes.txt cannot be read as an SQLite database"):
        open_store(path)
    assert path.read_text() == "not a database, " * 100


def test_a_migration_that_fails_midway_changes_nothing(bare_url: str):
    older(bare_url, "0001")
    execute(bare_url, "CREATE TABLE experiments (id INTEGER)")  # in the way of the second table of 0002
    before = connected(bare_url, rows)
    with pytest.raises(StoreError, match="experiments"):
        open_store(bare_url)
    assert connected(bare_url, rows) == before


def test_an_upgrade_that_would_leave_dangling_rows_is_refused(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'damaged.db'}"
    older(url, "0001")
    with closing(sqlite3.connect(tmp_path / "damaged.db")) as connection:  # which doesn't enforce references
        connection.execute("DELETE FROM agents")
        connection.commit()
    with pytest.raises(StoreError, match="refer to nothing"):
        open_store(url)


def test_many_may_open_a_new_store_at_once(bare_url: str):
    failures: list[Exception] = []

    def opening() -> None:
        try:
            open_store(bare_url).close()
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=opening) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_path_is_an_sqlite_file_whose_folder_is_made(tmp_path: Path):
    open_store(tmp_path / "new" / "store 100%.db").close()
    assert (tmp_path / "new" / "store 100%.db").is_file()


def test_a_folder_is_no_store(tmp_path: Path):
    with pytest.raises(StoreError, match=r"is a folder; name a file in it"):
        open_store(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="its folder cannot be made"):
        open_store(tmp_path / "file" / "store.db")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("mysql://host/name", "mysql is not supported"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("://", "cannot be read"),
    ],
)
def test_what_is_no_store_is_said(where: str, message: str):
    with pytest.raises(StoreError, match=message):
        open_store(where)


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path):
    with pytest.raises(StoreError) as caught:
        open_store(f"postgresql://me:hunter2@/bench?host={tmp_path}")
    assert "cannot be opened" in str(caught.value) and "hunter2" not in str(caught.value)


def test_a_store_that_is_busy_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("autorl_bench.store.database.BUSY_TIMEOUT", 0.05)
    path = tmp_path / "store.db"
    with open_store(path) as first, open_store(path) as second, first.write():  # noqa: SIM117
        with pytest.raises(StoreError, match="locked"), second.write():
            pass
