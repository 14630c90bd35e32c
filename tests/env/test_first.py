"""`env/first.py`, in a PID and network namespace of its own where the machine lets a test have one."""

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

FIRST = Path(__file__).parents[2] / "env" / "first.py"
UNSHARE = ["unshare", "--user", "--map-root-user", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]
ASK = """
import socket, sys
with socket.create_connection(("127.0.0.1", 8321)) as connection:
    connection.sendall(b"ping")
    connection.shutdown(socket.SHUT_WR)
    print(connection.recv(100))
"""


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no namespaces here")
    return UNSHARE


def start(*arguments: str, before: list[str] = [], seconds: float = 30) -> subprocess.CompletedProcess:  # noqa: B006
    command = [*before, sys.executable, "-I", str(FIRST), "--seconds", str(seconds), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def python(script: str) -> list[str]:
    return ["--", sys.executable, "-c", script]


@pytest.mark.parametrize(
    ("script", "status"), [("pass", 0), ("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_the_status_is_the_commands(script, status):
    assert start(*python(script)).returncode == status


def test_a_command_that_is_not_there_is_named():
    done = start("--", "no-such-programme")
    assert (done.returncode, done.stderr) == (127, "no-such-programme: No such file or directory\n")


def test_the_deadline_holds_against_a_job_that_fights_it(namespace):
    script = "import os, time\nos.kill(1, 9)\nos.kill(1, 19)\nos.kill(1, 15)\ntime.sleep(600)"
    assert start(*python(script), before=namespace, seconds=1).returncode == 124


def test_the_first_process_cannot_be_looked_into(namespace):
    powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]  # as a container is
    done = start(*python("open('/proc/1/environ', 'rb').read()"), before=[*namespace, *powerless])
    assert "Permission" in done.stderr


def test_orphans_are_waited_for_and_a_daemon_ends_with_the_command(namespace, tmp_path):
    script = f"""
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        time.sleep(1.5)
        open({str(tmp_path / "alive")!r}, "w")
    os._exit(0)
os.wait()
"""
    assert start(*python(script), before=namespace).returncode == 0
    time.sleep(2)
    assert not (tmp_path / "alive").exists()


def test_a_port_leads_to_its_socket(namespace, tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "8321"))
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(100)[::-1])

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        loopback = ["sh", "-c", 'ip link set lo up 2>/dev/null || ifconfig lo up; exec "$@"', "sh"]
        ports = ("--sockets", str(tmp_path), "--port", "8321")
        done = start(*ports, *python(ASK), before=[*namespace, *loopback])
        thread.join(30)
    assert done.stdout == "b'gnip'\n"


def test_a_port_without_a_service_closes(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = f"import socket; print(socket.create_connection(('127.0.0.1', {port})).recv(1))"
    done = start("--sockets", str(tmp_path), "--port", str(port), *python(script))
    assert done.stdout == "b''\n"
