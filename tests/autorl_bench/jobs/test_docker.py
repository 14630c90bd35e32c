"""Jobs as containers: the command, what is read of the engine, and a job's course (by a fake engine, without one)."""

import asyncio
import csv
import dataclasses
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from astune.errors import SandboxError
from astune.leftovers import MARK
from autorl_bench.jobs import Endpoint, JobLimits, JobSpec, JobStop, python_paths
from autorl_bench.jobs import record as records
from autorl_bench.jobs.container import (
    Container,
    Reading,
    control_group,
    create_arguments,
    environment_lines,
    exit_code,
    parse_state,
    parse_stats,
    read_group,
)
from autorl_bench.jobs.docker import DockerJobRunner
from tests.autorl_bench.jobs.conftest import wait_until

FAKE = Path(__file__).with_name("fake_engine.py")
LIMITS = JobLimits(wall_seconds=90, cpu_seconds=60.5, memory=2**30, processes=8, disk=2**25)


@pytest.fixture
def container(tmp_path) -> Container:
    return Container(
        image="astune-training",
        name="autorl-1",
        mark="1:2:3",
        folder=tmp_path / "job",
        user="1000:1000",
        first=Path("/checkout/env/first.py"),
        sockets=tmp_path / "sockets",
        temporary=tmp_path / "job" / "tmp",
        environment_file=tmp_path / "environment",
        cpus=1.5,
        gpus="all",
    )


def options_of(words: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in itertools.pairwise(words):
        if name.startswith("--"):
            found.setdefault(name, []).append(value)
    return found


def test_a_container_is_closed_on_all_sides(container):
    spec = JobSpec((sys.executable, "train.py"), Path("/bench/run"), limits=LIMITS)
    words = create_arguments(spec, container)
    options = options_of(words)
    assert {"--read-only", "--no-healthcheck"} <= set(words)
    assert "--privileged" not in words
    expected = {
        "--network": "none",
        "--cap-drop": "ALL",
        "--security-opt": "no-new-privileges",
        "--user": "1000:1000",
        "--memory": str(2**30),
        "--memory-swap": str(2**30),
        "--pids-limit": "208",
        "--cpus": "1.5",
        "--gpus": "all",
        "--pull": "never",
        "--log-driver": "none",
        "--workdir": "/bench/run",
    }
    assert {name: options[name] for name in expected} == {name: [value] for name, value in expected.items()}
    assert options["--ulimit"] == ["core=0", "cpu=61", f"fsize={2**25}", "nofile=65536"]
    assert options["--label"] == ["astune.mark=1:2:3", f"astune.job={container.folder}"]


def test_only_the_workspace_and_the_temporary_folder_are_writable(container):
    readable = (*python_paths(), Path("/models/base"))
    words = create_arguments(JobSpec(("x",), Path("/bench/run"), readable=readable), container)
    mounts = [next(csv.reader([line])) for line in options_of(words)["--mount"]]
    assert {mount[2]: mount[1] for mount in mounts if "readonly" not in mount} == {
        "target=/tmp": f"source={container.temporary}",
        "target=/bench/run": "source=/bench/run",
    }
    assert {mount[2] for mount in mounts if "readonly" in mount} == {
        "target=/models/base",
        "target=/run/autorl/first.py",
        "target=/run/autorl/sockets",
    }


def test_a_path_with_a_comma_stays_one_path(container):
    words = create_arguments(JobSpec(("x",), Path("/bench/run,readonly")), container)
    mounts = [next(csv.reader([line])) for line in options_of(words)["--mount"]]
    assert ["type=bind", "source=/bench/run,readonly", "target=/bench/run,readonly"] in mounts


def test_the_first_process_gets_the_deadline_the_ports_and_the_command(container):
    endpoints = (Endpoint("127.0.0.1", 8321), Endpoint("model.example", 443))
    spec = JobSpec((sys.executable, "a.py", "--x"), Path("/bench/run"), endpoints=endpoints, limits=LIMITS)
    words = create_arguments(spec, container)
    assert words[words.index("astune-training") + 1 :] == [
        *("-I", "/run/autorl/first.py", "--seconds", "100", "--sockets", "/run/autorl/sockets"),
        *("--port", "8321", "--port", "443", "--", "python", "a.py", "--x"),
    ]


def test_no_variable_is_on_a_command_line(container):
    spec = JobSpec(("x",), Path("/bench/run"), environment={"AUTORL_TOKEN": "secret"})
    assert not any("secret" in word for word in create_arguments(spec, container))
    assert f"AUTORL_TOKEN=secret\n{MARK}=1:2:3\n" in environment_lines(spec, "1:2:3")


def test_a_variable_with_a_line_break_is_refused():
    spec = JobSpec(("x",), Path("/bench/run"), environment={"KEY": "a\nOTHER=b"})
    with pytest.raises(ValueError, match="the variable KEY .* cannot hold a line break"):
        environment_lines(spec, "1:2:3")


def test_what_the_engine_says_is_read():
    state = parse_state('{"Running": false, "Pid": 0, "ExitCode": 137, "OOMKilled": true, "Error": ""}')
    assert (state.running, state.out_of_memory, exit_code(state.exit_code)) == (False, True, -9)
    stats = '{"MemUsage": "12.5MiB / 1GiB", "PIDs": "3", "CPUPerc": "150.00%"}'
    assert parse_stats(stats) == Reading(13107200, 3, cpus=1.5)
    assert [exit_code(status) for status in (0, 1, 127, 143, 255)] == [0, 1, 127, -15, 255]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"MemUsage": "-- / --", "PIDs": "3", "CPUPerc": "1%"}'])
def test_what_is_none_of_it_is_refused(text):
    with pytest.raises(ValueError, match="docker stats said"):
        parse_stats(text)
    with pytest.raises(ValueError, match="docker inspect said"):
        parse_state(text)


def test_the_kernels_counters_are_read(tmp_path):
    group = tmp_path / "system.slice" / "docker-abc.scope"
    group.mkdir(parents=True)
    (group / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (group / "memory.current").write_text("1000\n")
    (group / "memory.peak").write_text("3000\n")
    (group / "cgroup.procs").write_text("11\n12\n13\n")
    assert control_group("0::/system.slice/docker-abc.scope\n", "abc", tmp_path) == group
    assert read_group(group) == Reading(1000, 2, cpu_seconds=2.5, peak_memory=3000)


def test_the_group_of_another_process_is_not_taken_for_the_containers():
    assert control_group("0::/user.slice\n", "abc") is None
    assert control_group("12:pids:/docker/abc\n", "abc") is None


def engine_answers() -> bool:
    return bool(shutil.which("docker")) and subprocess.run(["docker", "info"], capture_output=True).returncode == 0


@pytest.mark.skipif(engine_answers(), reason="a Docker engine runs here")
def test_without_an_engine_the_message_says_what_to_do():
    with pytest.raises(SandboxError, match=r"(no Docker engine answers|no command 'docker').*`local`"):
        DockerJobRunner().probe()


def test_without_the_command_the_message_says_what_to_do():
    with pytest.raises(SandboxError, match="no command 'no-docker' here: install Docker"):
        DockerJobRunner(docker="no-docker").probe()


@pytest.fixture
def fake(tmp_path, monkeypatch) -> DockerJobRunner:
    (tmp_path / "engine").mkdir()
    monkeypatch.setenv("FAKE_ENGINE", str(tmp_path / "engine"))
    return DockerJobRunner(docker=str(FAKE))


def containers(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "engine").iterdir())


async def test_a_job_runs_to_its_end(fake, place, tmp_path):
    script = "import os, sys\nprint(os.getcwd(), os.environ['KEY'])\nprint('no', file=sys.stderr)\nsys.exit(3)"
    record = await place.run(fake, script, environment={"KEY": "value"})
    assert (record.stop, record.exit_code, record.level) == (JobStop.EXIT, 3, "kernel")
    assert (place.stdout, place.stderr) == (f"{place.workspace} value\n", "no\n")
    assert records.read(place.folder) == record
    assert containers(tmp_path) == []


async def test_the_wall_limit_ends_the_container(fake, place, tmp_path):
    record = await place.run(fake, "import time\ntime.sleep(600)", limits={"wall_seconds": 2})
    assert (record.stop, record.exit_code) == (JobStop.WALL, None)
    assert record.usage.peak_memory == 13107200
    assert containers(tmp_path) == []


async def test_the_disk_limit_ends_the_container(fake, place):
    script = "import time\nopen('file', 'wb').write(b'x' * (4 << 20))\ntime.sleep(600)"
    assert (await place.run(fake, script, limits={"disk": 2 << 20})).stop == JobStop.DISK


async def test_cancelling_removes_the_container(fake, place, tmp_path):
    task = asyncio.create_task(place.run(fake, "import time\nopen('started', 'w')\ntime.sleep(600)"))
    await asyncio.to_thread(wait_until, (place.workspace / "started").exists, "the job has started")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert records.read(place.folder).stop == JobStop.CANCELLED
    assert containers(tmp_path) == []


async def test_an_endpoint_is_relayed_over_a_socket(fake, place):
    def answer(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            request = b"".join(iter(lambda: connection.recv(1 << 16), b""))
            connection.sendall(request[::-1])

    script = """
        import socket, sys
        with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
            connection.sendall(b"abc" * 100_000)
            connection.shutdown(socket.SHUT_WR)
            data = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        print(data == b"cba" * 100_000)
    """
    # The fake has the machine's network: the service is at another address, so that both can have the port.
    with socket.create_server(("127.0.0.2", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        await place.run(fake, script, str(port), endpoints=(Endpoint("127.0.0.2", port),))
        thread.join(60)
    assert place.stdout == "True\n"


SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from autorl_bench.jobs import JobSpec
from autorl_bench.jobs.docker import DockerJobRunner
script = "import time; open('started', 'w'); time.sleep(600)"
spec = JobSpec((sys.executable, "-c", script), Path(sys.argv[2]))
asyncio.run(DockerJobRunner(docker=sys.argv[1]).run(spec, Path(sys.argv[3])))
"""


def test_recovery_removes_the_container_of_a_dead_supervisor(fake, place, tmp_path):
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, FAKE, place.workspace, place.folder])
    wait_until((place.workspace / "started").exists, "the job has started")
    assert fake.recover(place.folder).stop is None
    supervisor.kill()
    supervisor.wait()
    assert fake.recover(place.folder).stop == JobStop.INTERRUPTED
    assert containers(tmp_path) == []


def test_a_folder_without_a_job_has_nothing_to_recover(fake, tmp_path):
    assert fake.recover(tmp_path / "nothing") is None


@pytest.mark.slow
@pytest.mark.skipif(not engine_answers(), reason="no Docker engine answers here")
async def test_a_real_engine_keeps_a_job_in(place):
    image = os.environ.get("ASTUNE_TEST_IMAGE", "astune-eval")
    script = """
        import os, socket
        print(os.path.exists("/etc/shadow") and os.access("/etc/shadow", os.R_OK))
        try:
            socket.create_connection(("192.0.2.1", 80))
        except OSError as error:
            print(error.strerror)
        try:
            open("/planted", "w")
        except OSError as error:
            print(error.strerror)
        open("written", "w").close()
    """
    spec = place.spec(script)
    record = await DockerJobRunner(image).run(dataclasses.replace(spec, readable=()), place.folder)
    assert (record.stop, record.exit_code) == (JobStop.EXIT, 0)
    assert place.stdout == "False\nNetwork is unreachable\nRead-only file system\n"
    assert (place.workspace / "written").exists()
    assert json.loads((place.folder / "record.json").read_text())["features"][1] == "container"
