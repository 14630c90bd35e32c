"""Whoever dies, nothing keeps running, and the record says so."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from astune.errors import CheckpointError
from autorl_bench.jobs import JobStop
from autorl_bench.jobs import record as records
from tests.autorl_bench.jobs.conftest import alive, wait_until

#: A daemon and its parent, both for ever.
STUBBORN = """
    import os, signal, time
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork():
            os._exit(0)
    open(f"started-{os.getpid()}", "w").close()
    time.sleep(600)
"""
SUPERVISOR = """
import asyncio, json, sys
from pathlib import Path
from autorl_bench.jobs import JobSpec, LocalJobRunner, python_paths
level, workspace, folder, command = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
asyncio.run(LocalJobRunner(at_most=level).run(JobSpec(tuple(command), workspace, readable=python_paths()), folder))
"""


def start_supervisor(place, runner, nonce) -> subprocess.Popen:
    command = json.dumps(place.spec(STUBBORN, nonce).command)
    arguments = [runner.probe().level, str(place.workspace), str(place.folder), command]
    process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, *arguments])
    wait_until(lambda: len(list(place.workspace.glob("started-*"))) == 2, "both processes of the job have started")
    return process


def test_a_killed_supervisor_leaves_nothing_after_the_next_start(place, runner, nonce, nothing_left):
    supervisor = start_supervisor(place, runner, nonce)
    supervisor.kill()
    supervisor.wait()
    record = runner.recover(place.folder)
    assert (record.stop, record.problem) == (JobStop.INTERRUPTED, "the process that had started it died")
    assert alive(nonce) == []


def test_with_its_keeper_killed_as_well(place, runner, nonce, nothing_left):
    supervisor = start_supervisor(place, runner, nonce)
    keeper = records.read(place.folder).keeper
    supervisor.kill()
    os.kill(keeper.pid, signal.SIGKILL)
    supervisor.wait()
    assert runner.recover(place.folder).stop == JobStop.INTERRUPTED
    assert alive(nonce) == []


def test_a_killed_keeper_is_an_interruption_for_a_living_supervisor(place, runner, nonce, nothing_left):
    supervisor = start_supervisor(place, runner, nonce)
    os.kill(records.read(place.folder).keeper.pid, signal.SIGKILL)
    assert supervisor.wait() == 0
    record = records.read(place.folder)
    assert (record.stop, record.problem) == (JobStop.INTERRUPTED, "its keeper was killed")
    assert alive(nonce) == []


#: What a full disk does to a write, a limit on the size of files does, too.
NO_ROOM = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))\n" + SUPERVISOR


def test_output_that_cannot_be_kept_interrupts_the_job(place, runner, nonce, nothing_left):
    command = json.dumps(place.spec("print('x' * 10_000, flush=True)\nimport time\ntime.sleep(600)", nonce).command)
    arguments = [runner.probe().level, str(place.workspace), str(place.folder), command]
    subprocess.run([sys.executable, "-c", NO_ROOM, *arguments], check=True)
    record = records.read(place.folder)
    assert record.stop == JobStop.INTERRUPTED
    assert record.problem == "its output cannot be written: [Errno 27] File too large"
    assert alive(nonce) == []


def test_recovery_leaves_a_supervised_job_alone(place, runner, nonce, nothing_left):
    supervisor = start_supervisor(place, runner, nonce)
    assert runner.recover(place.folder).stop is None
    assert len(alive(nonce)) >= 2
    supervisor.kill()
    supervisor.wait()
    runner.recover(place.folder)


async def test_cancelling_ends_the_job_first(place, runner, nonce, nothing_left):
    task = asyncio.create_task(place.run(runner, STUBBORN, nonce))
    await asyncio.to_thread(wait_until, lambda: len(alive(nonce)) >= 2, "the job has started")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert records.read(place.folder).stop == JobStop.CANCELLED
    assert alive(nonce) == []


async def test_a_finished_record_is_not_changed_by_recovery(place, process_runner):
    finished = await place.run(process_runner, "")
    assert process_runner.recover(place.folder) == finished


def test_a_folder_without_a_job_has_nothing_to_recover(process_runner, tmp_path):
    assert process_runner.recover(tmp_path) is None


def test_a_damaged_record_is_named(process_runner, tmp_path):
    Path(tmp_path, "record.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"record\.json is no record of a job"):
        process_runner.recover(tmp_path)
