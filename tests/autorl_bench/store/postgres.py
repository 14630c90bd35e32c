"""A PostgreSQL server of one's own: made in a temporary folder, reached through a socket, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest


def binaries() -> Path:
    """The folder with initdb and postgres; skips where there is none."""
    found = shutil.which("initdb")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in candidates:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    pytest.skip("PostgreSQL's server is not installed here (initdb, postgres)")


def unprivileged() -> dict[str, Any]:
    """Arguments of subprocess for a user that the server accepts: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL's server refuses to run as root, and there is no user 'postgres' or 'nobody'")


@contextmanager
def postgres_server() -> Iterator[str]:
    """Yields the URL of a running server, without a database's name: ``postgresql://bench@/{}?host=FOLDER``."""
    where, identity = binaries(), unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has 107 characters
    try:
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        quiet: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, **identity}
        options = ["-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [where / "initdb", "-D", folder / "data", *options], capture_output=True, text=True, **quiet
        )
        assert made.returncode == 0, made.stderr
        log = folder / "log"
        settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50"]
        with log.open("wb") as output:
            command = [where / "postgres", "-D", folder / "data", "-k", folder, *settings]
            server = subprocess.Popen(command, stdout=output, stderr=output, **quiet)
        try:
            _wait(folder, server, log)
            yield f"postgresql://bench@/{{}}?host={folder}"
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(folder: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(f"postgresql://bench@/postgres?host={folder}").close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.05)


def create_database(server: str, name: str) -> str:
    """Makes an empty database; its URL."""
    with psycopg.connect(server.format("postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return server.format(name)
