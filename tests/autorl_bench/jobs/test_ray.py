"""Jobs on a real Ray cluster of one node, which is this machine."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from astune.errors import SandboxError, UserError
from astune.tools.types import SandboxLevel
from autorl_bench.jobs import JobSpec, JobStop, LocalJobRunner, make_runner
from autorl_bench.jobs import ray as ray_jobs
from autorl_bench.jobs import record as records
from autorl_bench.jobs.docker import DockerJobRunner
from autorl_bench.jobs.ray import Node, RayJobRunner
from tests.autorl_bench.jobs.conftest import alive, wait_until

INIT = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    runner = RayJobRunner(init=INIT)
    yield runner
    runner.close()


def test_runners_are_made_by_name():
    kinds = [type(make_runner(name)) for name in ("local", "docker", "ray")]
    assert kinds == [LocalJobRunner, DockerJobRunner, RayJobRunner]
    assert make_runner("docker", image="mine", cpus=2)._image == "mine"


def test_an_unknown_runner_is_refused_with_those_that_there_are():
    with pytest.raises(UserError, match="no job runner 'dcoker'; known are local, docker, ray; did you mean 'docker'"):
        make_runner("dcoker")


def test_an_unknown_option_is_refused():
    with pytest.raises(UserError, match="'local' has no option 'image'; known are at_most"):
        make_runner("local", image="x")


def test_making_a_runner_imports_nothing_heavy():
    script = "import sys; from autorl_bench.jobs import make_runner; make_runner('ray'); print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SandboxError, match=r'pip install "astune\[ray\]"'):
        RayJobRunner().probe()


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_named():
    pytest.importorskip("ray")
    with pytest.raises(SandboxError, match="there is no Ray cluster at 127.0.0.1:9"):
        RayJobRunner("127.0.0.1:9").probe()


@pytest.mark.slow
async def test_a_job_runs_on_a_node_as_it_runs_here(cluster, place):
    record = await place.run(cluster, "import os\nprint(os.getcwd())\nraise SystemExit(3)")
    assert (record.level, record.stop, record.exit_code) == (LocalJobRunner().probe().level, JobStop.EXIT, 3)
    assert place.stdout == f"{place.workspace}\n"
    assert records.read(place.folder) == record
    assert json.loads((place.folder / "node.json").read_text())["machine"] == ray_jobs._machine()


@pytest.mark.slow
async def test_a_limit_ends_it_there(cluster, place, nonce, nothing_left):
    record = await place.run(cluster, "import time\ntime.sleep(600)", nonce, limits={"wall_seconds": 1})
    assert record.stop == JobStop.WALL
    assert alive(nonce) == []


@pytest.mark.slow
async def test_cancelling_ends_the_job_there_first(cluster, place, nonce, nothing_left):
    script = "import time\nopen('started', 'w')\ntime.sleep(600)"
    task = asyncio.create_task(place.run(cluster, script, nonce, limits={"wall_seconds": 900}))
    await asyncio.to_thread(wait_until, (place.workspace / "started").exists, "the job has started")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert records.read(place.folder).stop == JobStop.CANCELLED
    assert alive(nonce) == []


@pytest.mark.slow
async def test_a_killed_worker_is_an_interruption(cluster, place, nonce, nothing_left):
    task = asyncio.create_task(place.run(cluster, "import time\nopen('started', 'w')\ntime.sleep(600)", nonce))
    await asyncio.to_thread(wait_until, (place.workspace / "started").exists, "the job has started")
    os.kill(records.read(place.folder).supervisor.pid, signal.SIGKILL)
    assert (await task).stop == JobStop.INTERRUPTED
    assert alive(nonce) == []


@pytest.mark.slow
async def test_what_a_node_does_not_see_is_named(cluster, place, tmp_path):
    with pytest.raises(SandboxError, match=f"does not see {tmp_path / 'gone'}"):
        await place.run(cluster, "", readable=(tmp_path / "gone",))


@pytest.mark.slow
def test_a_folder_that_is_not_shared_is_named(cluster, place):
    with pytest.raises(SandboxError, match="its nodes must share that folder"):
        ray_jobs._check_shared(place.spec(""), place.folder, "nonce", Node("1", "far", "away"))


@pytest.mark.slow
async def test_errors_come_back_as_they_are(cluster, place):
    await place.run(cluster, "")
    with pytest.raises(FileExistsError, match="another job"):
        await place.run(cluster, "")


@pytest.mark.slow
async def test_a_job_that_no_node_has_room_for_is_refused(cluster, place):
    with pytest.raises(SandboxError, match="no node of the Ray cluster has 99 CPUs"):
        await place.run(RayJobRunner(cpus=99, init=INIT), "")


SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from autorl_bench.jobs import JobSpec, python_paths
from autorl_bench.jobs.ray import RayJobRunner
script = "import time; open('started', 'w'); time.sleep(600)"
spec = JobSpec((sys.executable, "-I", "-S", "-c", script, sys.argv[1]), Path(sys.argv[2]), readable=python_paths())
init = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
asyncio.run(RayJobRunner("local", init=init).run(spec, Path(sys.argv[3])))
"""


@pytest.mark.slow
def test_recovery_ends_what_a_dead_supervisor_left(place, nonce, nothing_left):
    pytest.importorskip("ray")
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, nonce, place.workspace, place.folder])
    wait_until((place.workspace / "started").exists, "the job has started")
    runner = RayJobRunner(init=INIT)
    assert runner.recover(place.folder).stop is None
    supervisor.kill()
    supervisor.wait()
    wait_until(lambda: runner.recover(place.folder).stop == JobStop.INTERRUPTED, "the job is closed")
    assert not [process for process in alive(nonce) if process.pid != supervisor.pid]


@pytest.mark.slow
def test_a_job_of_a_node_that_left_is_interrupted(cluster, place):
    """The node is made up: nothing of the job runs anywhere."""
    me = records.this_process(os.getpid())
    records.make(place.folder, JobSpec(("true",), place.workspace))
    records.write(place.folder, records.JobRecord(SandboxLevel.KERNEL, (), me, me, me, "1:2:3"))
    (place.folder / "node.json").write_text(json.dumps({"id": "f" * 56, "name": "far", "machine": "another"}))
    record = cluster.recover(Path(place.folder))
    assert (record.stop, record.problem) == (JobStop.INTERRUPTED, "its node far left the cluster")
