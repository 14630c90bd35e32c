"""`--kill` ends what dead runs left behind and touches nothing else."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from astune.errors import UserError
from astune.leftovers import MARK, _namespace, birth, end_leftovers

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
#: Marks its children as `astuner` does, starts one and dies.
RUN = (
    "import subprocess, sys; from astune.leftovers import mark_children; mark_children(); "
    "child = subprocess.Popen([sys.executable, sys.argv[1]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL); "
    "child.stdout.readline(); "
    "print(child.pid)"
)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script whose name no other process on the machine has."""
    path = tmp_path / f"probe_{tmp_path.parent.name}_{tmp_path.name}.py"
    path.write_text(SLEEP)
    return path


@pytest.fixture
def start(script: Path):
    """Starts the script with the given mark; everything started is gone after the test."""
    started: list[subprocess.Popen] = []

    def start(mark: str | None, code: str = SLEEP) -> subprocess.Popen:
        script.write_text(code)
        environment = {} if mark is None else {MARK: mark}
        process = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"up\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def dead_mark() -> str:
    """The mark of a run that has ended."""
    run = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = f"{run.pid}:{birth(run.pid)}:{_namespace()}"
    run.communicate(b"\n")
    return mark


def live_mark() -> str:
    """The mark of a run that goes on: this process."""
    pid = psutil.Process().pid
    return f"{pid}:{birth(pid)}:{_namespace()}"


def test_a_child_of_a_killed_run_is_ended(script):
    run = subprocess.run([sys.executable, "-c", RUN, str(script)], capture_output=True, text=True, check=True)
    orphan = int(run.stdout)
    assert [ended.pid for ended in end_leftovers(script.stem)] == [orphan]
    assert birth(orphan) is None


def test_what_was_ended_is_told(start, script, dead_mark):
    process = start(dead_mark)
    (ended,) = end_leftovers(script.stem)
    assert (ended.pid, str(ended.owner)) == (process.pid, dead_mark.partition(":")[0])


def test_a_process_that_ignores_sigterm_is_ended(start, script, dead_mark):
    process = start(dead_mark, DEAF)
    end_leftovers(script.stem, patience=0.3)
    assert process.wait(timeout=10) == -9


def test_a_process_without_mark_survives(start, script):
    process = start(None)
    assert end_leftovers(script.stem) == []
    assert process.poll() is None


def test_a_process_of_a_living_run_survives(start, script):
    process = start(live_mark())
    assert end_leftovers(script.stem) == []
    assert process.poll() is None


def test_a_leftover_with_another_name_survives(start, script, dead_mark):
    process = start(dead_mark)
    assert end_leftovers(f"not_{script.stem}") == []
    assert process.poll() is None


def test_a_recycled_process_id_does_not_pass_for_the_run(start, script):
    pid, _, namespace = live_mark().split(":", 2)
    process = start(f"{pid}:1:{namespace}")
    assert [ended.pid for ended in end_leftovers(script.stem)] == [process.pid]


def test_a_mark_of_another_container_is_left_alone(start, script, dead_mark):
    pid, birth, _ = dead_mark.split(":", 2)
    process = start(f"{pid}:{birth}:pid:[1]")
    assert end_leftovers(script.stem) == []
    assert process.poll() is None


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"--kill=\(: not a regular expression"):
        end_leftovers("(")
