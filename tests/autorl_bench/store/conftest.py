"""Each test of the store runs on an SQLite file and on a real PostgreSQL server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from autorl_bench.store import Store, open_store
from autorl_bench.store.tables import Base
from tests.autorl_bench.store.postgres import create_database, postgres_server

BOTH = ["sqlite", "postgresql"]


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A running PostgreSQL server; skips with the reason where there can't be one."""
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a store in which nothing is, to be copied."""
    path = tmp_path_factory.mktemp("store") / "template.db"
    open_store(path).close()
    return path


@pytest.fixture(scope="session")
def postgres_store(server: str) -> str:
    """A database with a store; each test empties it."""
    url = create_database(server, "store")
    open_store(url).close()
    return url


@pytest.fixture(scope="session")
def postgres_database(server: str) -> str:
    """A database whose tables each test drops."""
    return create_database(server, "bare")


@pytest.fixture
def postgres_url(postgres_database: str) -> str:
    """An empty database."""
    with psycopg.connect(postgres_database) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return postgres_database


@pytest.fixture(params=BOTH)
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where nothing is yet, on either database."""
    return f"sqlite:///{tmp_path / 'bare.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store in which nothing is, on either database."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "store.db")
        return f"sqlite:///{tmp_path / 'store.db'}"
    url = request.getfixturevalue("postgres_store")
    with psycopg.connect(url) as connection:
        connection.execute(f"TRUNCATE {', '.join(Base.metadata.tables)} RESTART IDENTITY".encode())
    return url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[Store]:
    with open_store(url, clock=clock) as opened:
        yield opened
