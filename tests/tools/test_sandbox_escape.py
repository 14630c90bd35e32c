"""Each attack is stopped at the kernel level, and works without it: so the test fails if its guard goes."""

import os
import platform
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from astune.tools.sandbox import Sandbox
from astune.tools.types import SandboxLimits, SandboxStop

ESCAPED = "ESCAPED\n"


def try_both(attack: str, kernel: Sandbox, process: Sandbox) -> None:
    assert process.run_sync(attack).stdout == ESCAPED, "the attack itself must work"
    result = kernel.run_sync(attack)
    assert result.stdout == ""
    assert "PermissionError" in result.stderr


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_cannot_read_system_files(kernel: Sandbox, process: Sandbox) -> None:
    try_both("open('/etc/passwd').read(); print('ESCAPED')", kernel, process)


def test_cannot_read_the_files_of_the_run(kernel: Sandbox, process: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}")
    try_both(f"open({str(tmp_path / 'metrics.jsonl')!r}).read(); print('ESCAPED')", kernel, process)


def test_cannot_list_the_project(kernel: Sandbox, process: Sandbox) -> None:
    try_both(f"import os; os.listdir({str(Path(__file__).parent)!r}); print('ESCAPED')", kernel, process)


def test_environment_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTUNE_TEST_SECRET", "hunter2")
    with Sandbox() as sandbox:
        assert "hunter2" not in sandbox.run_sync("import os; print(os.environ)").stdout


def test_cannot_read_the_environment_of_another_process(kernel: Sandbox, process: Sandbox) -> None:
    try_both(f"open('/proc/{os.getpid()}/status').read(); print('ESCAPED')", kernel, process)
    assert "PermissionError" in kernel.run_sync(f"open('/proc/{os.getpid()}/environ').read()").stderr


def test_cannot_connect_to_loopback(kernel: Sandbox, process: Sandbox, listener: int) -> None:
    attack = f"import socket; socket.create_connection(('127.0.0.1', {listener}), 5); print('ESCAPED')"
    try_both(attack, kernel, process)


def test_cannot_fork(kernel: Sandbox, process: Sandbox) -> None:
    try_both("import os\nif os.fork() == 0: os._exit(0)\nprint('ESCAPED')", kernel, process)


def test_fork_bomb_ends_at_once_and_leaves_the_sandbox_working(kernel: Sandbox) -> None:
    assert kernel.run_sync("import os\nwhile True: os.fork()").returncode == 1
    assert kernel.run_sync("print(1)").stdout == "1\n"


def test_memory_bomb_hits_its_limit(kernel: Sandbox) -> None:
    bomb = "x = bytearray(200 << 20); print(len(x))"
    assert kernel.run_sync(bomb, SandboxLimits(memory=512 << 20)).returncode == 0
    result = kernel.run_sync(bomb, SandboxLimits(memory=64 << 20))
    assert (result.stop_reason, result.returncode, result.stdout) == (SandboxStop.MEMORY, 1, "")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_flood_is_cut_at_its_limit(kernel: Sandbox, stream: str) -> None:
    flood = f"import sys\nwhile True: sys.{stream}.write('x' * 1000)"
    result = kernel.run_sync(flood, SandboxLimits(output=10_000))
    assert result.stop_reason == SandboxStop.OUTPUT
    assert getattr(result, stream) == "x" * 10_000


def test_cannot_kill_the_warm_parent(kernel: Sandbox, process: Sandbox) -> None:
    attack = "import os; os.kill(os.getppid(), 9); print('ESCAPED')"
    assert process.run_sync(attack).stop_reason == SandboxStop.KILLED, "the attack itself must work"
    before = kernel.pid
    assert "PermissionError" in kernel.run_sync(attack).stderr
    assert kernel.pid == before


@pytest.mark.parametrize("target", ["-1", "0", "1", pytest.param(str(os.getpid()), id="own")])
def test_cannot_signal_others(kernel: Sandbox, target: str) -> None:
    assert "PermissionError" in kernel.run_sync(f"import os; os.kill({target}, 0)").stderr


def test_cannot_make_the_kernel_signal_others(kernel: Sandbox, process: Sandbox) -> None:
    attack = "import fcntl, os; r, w = os.pipe(); fcntl.fcntl(r, 8, os.getppid()); print('ESCAPED')"
    try_both(attack, kernel, process)


def test_cannot_write_outside(kernel: Sandbox, process: Sandbox, tmp_path: Path) -> None:
    target = tmp_path / "written"
    try_both(f"open({str(target)!r}, 'w'); print('ESCAPED')", kernel, process)
    target.unlink()
    kernel.run_sync(f"open({str(target)!r}, 'w')")
    assert not target.exists()


def test_cannot_change_what_it_may_read(kernel: Sandbox, process: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    try_both(f"import os; os.chmod({str(tmp_path / 'file')!r}, 0o777); print('ESCAPED')", kernel, process)


@pytest.mark.parametrize("path", ["os.__file__", "'/dev/shm/astune-test'", "'/tmp/astune-test'", "'astune-test'"])
def test_has_no_writable_place(kernel: Sandbox, path: str) -> None:
    assert "PermissionError" in kernel.run_sync(f"import os; open({path}, 'a')").stderr


def test_cannot_execute_programs(kernel: Sandbox, process: Sandbox) -> None:
    try_both("import os; os.execv('/bin/echo', ['echo', 'ESCAPED'])", kernel, process)


@pytest.mark.parametrize(
    "stubborn",
    [
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
        "import signal, os; os.kill(os.getpid(), signal.SIGSTOP)",
    ],
)
def test_code_that_ignores_signals_dies_at_its_time_limit(kernel: Sandbox, stubborn: str) -> None:
    result = kernel.run_sync(f"{stubborn}\nwhile True: pass", SandboxLimits(seconds=0.5))
    assert (result.stop_reason, result.returncode) == (SandboxStop.TIMEOUT, -9)


def test_code_that_ignores_the_cpu_signal_dies_at_its_cpu_limit(kernel: Sandbox) -> None:
    code = "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    result = kernel.run_sync(code, SandboxLimits(cpu_seconds=1, seconds=60))
    assert (result.stop_reason, result.returncode) == (SandboxStop.TIMEOUT, -9)


def test_cannot_raise_its_own_limits(kernel: Sandbox) -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_CPU, (999, 999))"
    assert kernel.run_sync(code).returncode == 1


def test_double_forked_daemon_cannot_start(kernel: Sandbox, process: Sandbox, tmp_path: Path) -> None:
    marker = tmp_path / "alive"
    daemon = (
        "import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0:\n  os.closerange(0, 9)\n"
        f"  time.sleep(.1); open({str(marker)!r}, 'w'); os._exit(0)\n os._exit(0)\nos.wait()"
    )
    assert process.run_sync(daemon).returncode == 0
    deadline = time.monotonic() + 20
    while not marker.exists():
        assert time.monotonic() < deadline, "the attack itself must work"
        time.sleep(0.02)
    marker.unlink()
    assert "PermissionError" in kernel.run_sync(daemon).stderr
    assert not marker.exists()


def test_code_that_forges_its_end_dies_of_it() -> None:
    forge = (
        "import os, sys\nframe = sys._getframe()\nwhile 'farewell' not in frame.f_locals: frame = frame.f_back\n"
        "frame.f_locals['farewell'][:2] = bytes([1, 5])\nos.close(1); os.close(2)\nwhile True: pass"
    )
    limits = SandboxLimits(seconds=600, cpu_seconds=600)
    with Sandbox(workers=1, limits=limits) as sandbox:
        assert sandbox.run_sync(forge).returncode == 5
        assert sandbox.run_sync("print(1)").stdout == "1\n", "the only worker is free again"


def test_sees_no_file_descriptor_but_its_own(kernel: Sandbox) -> None:
    code = (
        "import os\ndef is_open(fd):\n try: os.fstat(fd)\n except OSError: return False\n return True\n"
        "print([fd for fd in range(1024) if is_open(fd)])"
    )
    assert kernel.run_sync(code).stdout == "[0, 1, 2]\n"


def test_has_no_capabilities(process: Sandbox) -> None:
    status = process.run_sync("print(open('/proc/self/status').read())").stdout  # nothing is readable above this level
    sets = [line.split()[1] for line in status.splitlines() if line.startswith(("CapEff", "CapPrm", "CapInh"))]
    assert sets == ["0" * 16] * 3


# Raw system calls through ctypes: name -> (number on x86_64, arguments). The first group works without the guard.
RAW = {
    "open": (2, "b'/etc/passwd', 0"),
    "openat": (257, "-100, b'/etc/passwd', 0"),
    "socket": (41, "2, 1, 0"),
    "socketpair": (53, "1, 1, 0, (ctypes.c_int * 2)()"),
    "kill": (62, "os.getppid(), 0"),
    "memfd_create": (319, "b'x', 0"),
    "ptrace": (101, "0, 0, 0, 0"),
    "pidfd_open": (434, "os.getppid(), 0"),
    "fork": (57, ""),
    "clone": (56, "17, 0, 0, 0, 0"),
    "setsid": (112, ""),
}
RAW_PRIVILEGED = {
    "execve": (59, "b'/bin/true', 0, 0"),
    "unshare": (272, "0x10000000"),
    "setns": (308, "0, 0"),
    "mount": (165, "0, b'/', 0, 0, 0"),
    "chroot": (161, "b'/usr/lib'"),
    "setuid": (105, "0"),
    "bpf": (321, "0, 0, 0"),
    "keyctl": (250, "0, 0, 0, 0, 0"),
    "io_uring_setup": (425, "1, 0"),
    "process_vm_readv": (310, "1, 0, 0, 0, 0, 0"),
    "perf_event_open": (298, "0, 0, 0, 0, 0"),
    "userfaultfd": (323, "0"),
    "rt_sigqueueinfo": (129, "1, 9, 0"),
    "shmget": (29, "0, 4096, 0o1600"),
    "prctl_pdeathsig": (157, "1, 0, 0, 0, 0"),
}


def raw_call(number: int, arguments: str) -> str:
    return (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"result = libc.syscall({number}{', ' if arguments else ''}{arguments})\n"
        "if result == 0: result = 'ok'\nprint(result if result != -1 else -ctypes.get_errno())"
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers of x86_64")
@pytest.mark.parametrize("name", [*RAW, *RAW_PRIVILEGED])
def test_raw_system_call_is_refused(kernel: Sandbox, name: str) -> None:
    result = kernel.run_sync(raw_call(*(RAW | RAW_PRIVILEGED)[name]))
    assert result.stdout in ("-1\n", "-13\n"), "EPERM or EACCES"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers of x86_64")
@pytest.mark.parametrize("name", [name for name in RAW if name != "setsid"])
def test_raw_system_call_works_without_the_guard(process: Sandbox, name: str) -> None:
    first = process.run_sync(raw_call(*RAW[name])).stdout.split()[0]
    assert first == "ok" or int(first) > 0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the x32 calls of x86_64")
def test_other_call_tables_of_the_machine_end_the_process(kernel: Sandbox) -> None:
    assert kernel.run_sync(raw_call(0x40000000 | 39, "")).returncode == -31


def test_threads_are_free(kernel: Sandbox) -> None:
    code = "import threading\nthreads = [threading.Thread(target=print, args=('t',)) for _ in range(4)]\n"
    code += "for thread in threads: thread.start()\nfor thread in threads: thread.join()"
    assert kernel.run_sync(code).stdout == "t\n" * 4
