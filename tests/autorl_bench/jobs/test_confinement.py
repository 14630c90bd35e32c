"""What a job sees and reaches: what its specification names, and nothing else."""

import ast
import dataclasses
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from astune.errors import SandboxError
from autorl_bench.jobs import Endpoint, JobSpec, JobStop


async def test_a_job_says_how_isolated_it_was(place, runner):
    record = await place.run(runner, "print('done')")
    assert (record.level, record.stop, record.exit_code, place.stdout) == (
        runner.probe().level,
        JobStop.EXIT,
        0,
        "done\n",
    )


async def test_the_workspace_is_writable_and_what_is_readable_is_not(place, kernel_runner, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.jsonl").write_text("problem")
    script = """
        import sys
        open("copy", "w").write(open(sys.argv[1] + "/train.jsonl").read())
        open(sys.argv[1] + "/planted", "w")
    """
    record = await place.run(kernel_runner, script, str(data), readable=(data,))
    assert record.exit_code == 1
    assert "PermissionError" in place.stderr or "Read-only file system" in place.stderr
    assert (place.workspace / "copy").read_text() == "problem"
    assert not (data / "planted").exists()


async def test_what_was_not_named_is_not_even_there(place, kernel_runner, tmp_path):
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "test.jsonl").write_text("answer")
    script = """
        import os, sys
        for path in (sys.argv[1], sys.argv[1] + "/test.jsonl", sys.argv[2], "/etc/shadow", "/root/.bashrc"):
            print(os.path.lexists(path))
    """
    await place.run(kernel_runner, script, str(tmp_path / "vault"), str(place.folder), hidden=(tmp_path / "vault",))
    assert place.stdout == "False\n" * 5


async def test_processes_outside_are_not_visible(place, kernel_runner):
    await place.run(kernel_runner, "import os\nprint(sorted(int(n) for n in os.listdir('/proc') if n.isdigit()))")
    assert place.stdout == "[1, 2]\n"


async def test_the_init_cannot_be_looked_into(place, kernel_runner):
    await place.run(kernel_runner, "open('/proc/1/mem', 'rb')")
    assert "PermissionError" in place.stderr


async def test_without_endpoints_there_is_no_network(place, kernel_runner):
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = "import socket, sys\nsocket.create_connection(('127.0.0.1', int(sys.argv[1])))"
        await place.run(kernel_runner, script, str(server.getsockname()[1]))
    assert "ConnectionRefusedError" in place.stderr


async def test_nothing_beyond_the_machine_is_reachable(place, kernel_runner):
    await place.run(kernel_runner, "import socket\nsocket.create_connection(('192.0.2.1', 80))")
    assert "Network is unreachable" in place.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
async def test_an_endpoint_is_reached_both_ways(place, runner, host):
    def answer(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            request = b"".join(iter(lambda: connection.recv(1 << 16), b""))
            connection.sendall(request[::-1])

    with socket.create_server((host, 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        script = """
            import socket, sys
            with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
                connection.sendall(b"abc" * 100_000)
                connection.shutdown(socket.SHUT_WR)
                data = b"".join(iter(lambda: connection.recv(1 << 16), b""))
            print(data == b"cba" * 100_000)
        """
        await place.run(runner, script, str(port), endpoints=(Endpoint(host, port),))
        thread.join()
    assert place.stdout == "True\n"


async def test_only_the_endpoint_is_reached(place, kernel_runner):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        script = "import socket, sys\nsocket.create_connection(('127.0.0.1', int(sys.argv[1])))"
        endpoint = Endpoint("127.0.0.1", server.getsockname()[1])
        await place.run(kernel_runner, script, str(other.getsockname()[1]), endpoints=(endpoint,))
    assert "ConnectionRefusedError" in place.stderr


@pytest.mark.parametrize(
    "attempt",
    ["ctypes.CDLL(None).unshare(0x10000000)", "ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, 0)"],
    ids=["user namespace", "mount"],
)
async def test_no_call_widens_the_world(place, kernel_runner, attempt):
    await place.run(kernel_runner, f"import ctypes\nprint({attempt})")
    assert place.stdout == "-1\n"


async def test_no_socket_passes_by_the_network_namespace(place, kernel_runner):
    await place.run(kernel_runner, "import socket\nsocket.socket(40, socket.SOCK_STREAM)")  # AF_VSOCK
    assert "PermissionError" in place.stderr


async def test_the_environment_is_the_declared_one(place, runner, monkeypatch):
    monkeypatch.setenv("GRADER_TOKEN", "secret")
    await place.run(runner, "import os\nprint(sorted(os.environ))", environment={"SCENARIO": "nano"})
    names = {"ASTUNE_RUN", "HOME", "LANG", "PATH", "SCENARIO", "TMPDIR"}
    assert set(eval(place.stdout)) - {"LC_CTYPE"} == names


async def test_required_confinement_fails_closed(place, process_runner):
    with pytest.raises(SandboxError, match="requires kernel confinement"):
        await place.run(process_runner, "open('ran', 'w')", require="kernel")
    assert not (place.workspace / "ran").exists()


async def test_output_is_kept_at_both_ends(place, runner):
    await place.run(runner, "print('first')\nfor _ in range(50):\n    print('x' * 1000)\nprint('last')")
    assert place.stdout.startswith("first\n")
    assert place.stdout.endswith("last\n")
    assert "bytes left out" in place.stdout
    assert len(place.stdout) < 10_100


async def test_a_programme_that_is_not_there_is_said(place, runner):
    spec = JobSpec(("no-such-programme",), place.workspace)
    if runner.probe().level == "kernel":
        record = await runner.run(spec, place.folder)
        assert record.exit_code == 127
        assert "no-such-programme: No such file" in place.stderr


async def test_a_folder_holds_one_job(place, process_runner):
    await place.run(process_runner, "")
    with pytest.raises(FileExistsError, match="another job"):
        await place.run(process_runner, "")


async def test_a_job_cannot_see_its_own_record(place, process_runner):
    with pytest.raises(ValueError, match="is to be hidden"):
        await process_runner.run(place.spec(""), place.workspace / "job")


async def test_numeric_programmes_run(place, kernel_runner):
    spec = place.spec("import numpy\nprint(numpy.ones(3).sum())")
    command = tuple(word for word in spec.command if word not in ("-S", "-I"))
    await kernel_runner.run(dataclasses.replace(spec, command=command), place.folder)
    assert place.stdout == "3.0\n"


#: Becomes a user without rights (who may not read this Python: hence no new interpreter), and keeps a job.
UNPRIVILEGED = """
import asyncio, ctypes, json, os, sys
from pathlib import Path
from astune.tools.types import SandboxLevel, SandboxProbe
from autorl_bench.jobs import JobSpec, keeper, local
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # a process that was started by this user may be looked into by it
spec = JobSpec(("/bin/sh", "-c", "id -u; ls /root"), Path(sys.argv[1]))
request = local._prepare(spec, Path(sys.argv[2]), SandboxProbe(SandboxLevel.KERNEL, (), ""))
job = keeper.Keeper(json.loads(request))
sys.exit(job.start() or asyncio.run(job.watch()))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_confinement_needs_no_rights(kernel_runner):
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, 65534, 65534)
        workspace = Path(name, "workspace")
        workspace.mkdir()
        os.chown(workspace, 65534, 65534)
        subprocess.run([sys.executable, "-c", UNPRIVILEGED, workspace, Path(name, "job")], check=True)
        assert Path(name, "job", "stdout.log").read_text() == "65534\n"
        assert "/root" in Path(name, "job", "stderr.log").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command": ()}, "needs a command"),
        ({"workspace": Path("relative")}, "must be absolute"),
        ({"environment": {"ASTUNE_RUN": "1"}}, "cannot set ASTUNE_RUN"),
        ({"hidden": (Path("/data/vault"),), "readable": (Path("/data"),)}, "could see it through /data"),
        ({"endpoints": (Endpoint("a", 80), Endpoint("b", 80))}, "same port"),
    ],
)
def test_a_malformed_specification_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        JobSpec(**{"command": ("true",), "workspace": Path("/workspace"), **change})


async def test_a_job_imports_the_library_and_sees_no_neighbours_of_it(kernel_runner, place):
    script = "import astune, os\nprint(sorted(os.listdir(os.path.dirname(astune.__path__[0]))))"
    command = (sys.executable, "-c", script)
    spec = dataclasses.replace(place.spec(""), command=command)
    await kernel_runner.run(spec, place.folder)
    names = ast.literal_eval(place.stdout)
    assert "astune" in names
    assert "tests" not in names
