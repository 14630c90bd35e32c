"""Processes that are watched: started again when they die, not for ever, and ended in good order."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from astune.errors import UserError
from autorl_bench.operate.serving import MAX_DEATHS, Watched, listen
from tests.autorl_bench.small_bench import wait_until

#: Notes its start; ends at the end of its standard input, which is the end of whoever started it.
PATIENT = "import pathlib, sys; pathlib.Path(sys.argv[1]).open('a').write('started\\n'); sys.stdin.read()"
STUBBORN = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).open('a').write('started\\n')
time.sleep(600)
"""


def python(programme: str, *arguments: object) -> list[str]:
    return [sys.executable, "-S", "-c", programme, *map(str, arguments)]


def starts(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


def kill(watched: Watched) -> None:
    psutil.Process(watched.process.pid).kill()


def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    file, gone = tmp_path / "starts", list[int]()

    def after(pid: int) -> bool:
        gone.append(pid)
        return False

    watched = Watched(python(PATIENT, file), after_death=after)
    first = watched.process.pid
    wait_until(lambda: starts(file) == 1, "its start")
    kill(watched)
    wait_until(lambda: starts(file) == 2, "its second start")
    assert gone == [first]
    watched.stop()
    assert gone[1:] == [watched.process.pid]


def test_a_process_that_cannot_live_is_given_up_and_said_to_be(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given_up = threading.Event()
    watched = Watched(python("raise SystemExit(3)"), at_last=given_up.set)
    wait_until(given_up.is_set, "giving up")
    assert f"died {MAX_DEATHS + 1} times, last with 3" in watched.problem
    assert "not started again" in capfd.readouterr().err
    watched.stop()


def test_deaths_at_work_are_counted_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "starts"
    programme = "import pathlib, sys; pathlib.Path(sys.argv[1]).open('a').write('started\\n')"
    watched = Watched(python(programme, file), after_death=lambda _: True)
    wait_until(lambda: starts(file) > MAX_DEATHS + 2, "more starts")
    assert not watched.problem
    watched.stop()


def test_a_process_ends_with_its_standard_input(tmp_path: Path) -> None:
    watched = Watched(python(PATIENT, tmp_path / "starts"))
    wait_until(lambda: starts(tmp_path / "starts"), "its start")
    watched.stop()
    assert watched.process.returncode == 0


def test_a_process_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    watched = Watched(python(STUBBORN, tmp_path / "starts"), patience=0.3)
    wait_until(lambda: starts(tmp_path / "starts"), "its start")
    watched.stop()
    assert watched.process.returncode == -signal.SIGKILL


def test_nothing_is_started_any_more_when_it_is_stopped_as_it_dies(tmp_path: Path) -> None:
    for turn in range(5):
        file = tmp_path / f"starts-{turn}"
        watched = Watched(python(PATIENT, file))
        wait_until(lambda file=file: starts(file), "its start")
        kill(watched)
        time.sleep(0.05 * turn)
        watched.stop()
        before = starts(file)
        time.sleep(0.4)
        assert starts(file) == before
        assert watched.process.returncode is not None


def test_ctrl_c_in_the_terminal_is_not_for_the_children(tmp_path: Path) -> None:
    watched = Watched(python(PATIENT, tmp_path / "starts"))
    assert os.getsid(watched.process.pid) != os.getsid(0)
    watched.stop()


def test_a_port_in_use_is_bad_input() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is in use.*--port"):
            listen("127.0.0.1", port)
