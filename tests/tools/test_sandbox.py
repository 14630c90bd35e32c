"""The sandbox as its callers see it: results, limits, queueing, restarts, levels."""

import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from astune.errors import SandboxError
from astune.tools import confine, levels, seccomp
from astune.tools.call import Call
from astune.tools.sandbox import ENVIRONMENT, Sandbox
from astune.tools.types import SandboxLevel, SandboxLimits, SandboxStop

PROJECT = Path(__file__).resolve().parents[2]


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [further for child in children for further in descendants(child)]


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, f"process {pid} still lives"
        time.sleep(0.02)


async def test_result_of_plain_code(kernel: Sandbox) -> None:
    result = await kernel.run("print(6 * 3)")
    assert (result.stdout, result.stderr, result.returncode, result.stop_reason) == ("18\n", "", 0, SandboxStop.EXIT)


def test_unicode_goes_both_ways(kernel: Sandbox) -> None:
    assert kernel.run_sync("print('é 😀 数')").stdout == "é 😀 数\n"


def test_bytes_that_are_no_text_are_replaced(kernel: Sandbox) -> None:
    assert kernel.run_sync("import os; os.write(1, b'a\\xff')").stdout == "a\ufffd"


def test_lone_surrogates_in_code_are_the_code_s_error(kernel: Sandbox) -> None:
    assert kernel.run_sync("print('\ud800')").returncode == 1


def test_traceback_shows_the_code_and_nothing_else(kernel: Sandbox) -> None:
    result = kernel.run_sync("import json\njson.loads('{')")
    assert result.returncode == 1
    assert result.stderr.startswith('Traceback (most recent call last):\n  File "<code>", line 2, in <module>\n')
    assert result.stderr.count("File ") == 1


def test_syntax_error_is_reported(kernel: Sandbox) -> None:
    result = kernel.run_sync("print(")
    assert (result.returncode, "SyntaxError" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("code", "returncode"),
    [
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit()", 0),
        ("raise SystemExit('no')", 1),
        ("import os; os._exit(7)", 7),
        ("import sys; sys.stdout.close()", 0),
        ("import sys; sys.stdout = None", 0),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -15),
    ],
)
def test_returncode_is_that_of_an_interpreter(kernel: Sandbox, code: str, returncode: int) -> None:
    assert kernel.run_sync(code).returncode == returncode


def test_input_is_empty(kernel: Sandbox) -> None:
    assert "EOFError" in kernel.run_sync("input()").stderr


def test_code_is_main(kernel: Sandbox) -> None:
    code = "class A: pass\nimport pickle\nif __name__ == '__main__': print(type(pickle.loads(pickle.dumps(A()))) is A)"
    assert kernel.run_sync(code).stdout == "True\n"


def test_calls_share_nothing(kernel: Sandbox) -> None:
    kernel.run_sync("import math; math.pi = 3; x = 1")
    assert kernel.run_sync("import math; print(math.pi > 3, 'x' in globals())").stdout == "True False\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_children_share_no_memory_with_each_other() -> None:
    code = "import time; time.sleep(.05); print(open('/proc/self/maps').read().count('/dev/zero'))"
    async with Sandbox(at_most="process", workers=3) as sandbox:  # where /proc is readable
        results = await asyncio.gather(*(sandbox.run(code) for _ in range(9)))
    assert {result.stdout for result in results} == {"1\n"}, "a shared page each: its own farewell's"


def test_code_longer_than_any_pipe_runs(kernel: Sandbox) -> None:
    kernel.run_sync("")
    time.sleep(0.05)  # a spare waits now
    assert kernel.run_sync(f"print(len({'x' * 3_000_000!r}))").stdout == "3000000\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killed_spares_cost_no_call() -> None:
    with Sandbox() as sandbox:
        sandbox.run_sync("")
        warm_parent, *spares = descendants(sandbox.pid)
        while not spares:
            spares = descendants(warm_parent)
        for pid in spares:
            os.kill(pid, signal.SIGKILL)
            wait_until_gone(pid)
        assert [sandbox.run_sync(f"print({i})").stdout for i in range(3)] == ["0\n", "1\n", "2\n"]


def test_output_up_to_the_limit_is_whole(kernel: Sandbox) -> None:
    result = kernel.run_sync("print('x' * 199_999)", SandboxLimits(output=200_000))
    assert (len(result.stdout), result.stop_reason) == (200_000, SandboxStop.EXIT)


def test_what_was_printed_before_a_timeout_is_kept(kernel: Sandbox) -> None:
    result = kernel.run_sync("print('so far')\nwhile True: pass", SandboxLimits(seconds=0.5))
    assert (result.stdout, result.stop_reason) == ("so far\n", SandboxStop.TIMEOUT)


def test_environment_is_fixed(kernel: Sandbox) -> None:
    seen = json.loads(kernel.run_sync("import json, os; print(json.dumps(dict(os.environ)))").stdout)
    assert seen == ENVIRONMENT


def test_same_code_prints_the_same_in_every_sandbox() -> None:
    code = "import random; print({'a', 'b', 'c', 'd'}, random.random())"
    outputs = set()
    for _ in range(2):
        with Sandbox() as sandbox:
            outputs |= {sandbox.run_sync(code).stdout, sandbox.run_sync(code).stdout}
    assert len(outputs) == 1


def test_preloaded_module_is_there_from_the_start() -> None:
    with Sandbox(preload=("numpy",)) as sandbox:
        assert sandbox.run_sync("import sys; print('numpy' in sys.modules)").stdout == "True\n"
        assert sandbox.run_sync("import numpy as np; print(np.linalg.det(np.eye(3)))").stdout == "1.0\n"


def test_unknown_preload_is_named() -> None:
    with pytest.raises(SandboxError, match="no_such_module_here"):
        Sandbox(preload=("no_such_module_here",)).start()


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"memory": -1}, {"cpu_seconds": float("inf")}])
def test_limit_that_limits_nothing_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        SandboxLimits(**limits)  # type: ignore[arg-type]


def test_more_than_one_process_is_refused(kernel: Sandbox) -> None:
    with pytest.raises(SandboxError, match="processes"):
        kernel.run_sync("print(1)", SandboxLimits(processes=2))


async def test_64_calls_at_once_each_get_their_own_answer(kernel: Sandbox) -> None:
    results = await asyncio.gather(*(kernel.run(f"print({i})") for i in range(64)))
    assert [result.stdout for result in results] == [f"{i}\n" for i in range(64)]


@pytest.mark.parametrize("workers", [1, 3])
async def test_no_more_children_run_than_workers(workers: int) -> None:
    code = "import time; a = time.monotonic(); time.sleep(.05); print(a, time.monotonic())"
    async with Sandbox(workers=workers) as sandbox:
        results = await asyncio.gather(*(sandbox.run(code) for _ in range(8)))
    spans = [tuple(map(float, result.stdout.split())) for result in results]
    assert max(sum(a <= start < b for a, b in spans) for start, _ in spans) <= workers


async def test_one_sandbox_serves_many_event_loops(kernel: Sandbox) -> None:
    def in_own_loop(number: int) -> str:
        return asyncio.run(kernel.run(f"print({number})")).stdout

    assert await asyncio.gather(*(asyncio.to_thread(in_own_loop, i) for i in range(4))) == [f"{i}\n" for i in range(4)]


async def test_cancelled_call_is_killed_and_frees_its_worker() -> None:
    async with Sandbox(workers=1) as sandbox:
        endless = asyncio.create_task(sandbox.run("while True: pass", SandboxLimits(seconds=600, cpu_seconds=600)))
        await asyncio.sleep(0.2)
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless
        assert (await asyncio.wait_for(sandbox.run("print(1)"), 60)).stdout == "1\n"


async def test_killed_warm_parent_ends_the_call_and_serves_the_next() -> None:
    async with Sandbox() as sandbox:
        call = asyncio.create_task(sandbox.run("import time; time.sleep(600)", SandboxLimits(seconds=600)))
        await asyncio.sleep(0.2)
        os.kill(sandbox.pid, signal.SIGKILL)
        assert (await asyncio.wait_for(call, 60)).stop_reason == SandboxStop.KILLED
        assert (await sandbox.run("print(1)")).stdout == "1\n"


async def test_close_ends_the_calls_that_run() -> None:
    sandbox = Sandbox()
    await sandbox.run("")
    call = asyncio.create_task(sandbox.run("import time; time.sleep(600)", SandboxLimits(seconds=600)))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(sandbox.close)
    assert (await asyncio.wait_for(call, 60)).stop_reason == SandboxStop.KILLED


def test_everything_dies_with_the_client() -> None:
    script = (
        "import os, threading, time; from astune.tools.sandbox import *; s = Sandbox(); s.start();"
        "sleep = ('import time; time.sleep(600)', SandboxLimits(seconds=600));"
        "threading.Thread(target=s.run_sync, args=sleep).start();"
        "time.sleep(.2); heir = os.fork() or time.sleep(600); print(s.pid, heir, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        warm_parent, heir = map(int, client.stdout.readline().split())
        family = [warm_parent, *descendants(warm_parent)]
        client.kill()
    assert len(family) >= 2
    try:
        for pid in family:
            wait_until_gone(pid)
    finally:
        os.kill(heir, signal.SIGKILL)  # it held the client's end of the socket open all the time


def test_fork_of_the_client_starts_its_own_warm_parent(kernel: Sandbox) -> None:
    kernel.start()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if kernel.run_sync("print(1)").stdout == "1\n" else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert kernel.run_sync("print(2)").stdout == "2\n"


def test_child_that_cannot_confine_itself_runs_nothing(tmp_path: Path) -> None:
    broken = confine.Confinement(ruleset=os.open(os.devnull, os.O_RDONLY), parent=None, base_memory=2**40)
    limits = {"seconds": 60, "cpu_seconds": 60, "memory": 2**30, "file_size": 1, "output": 1000}
    call = Call(broken, {"id": 1, "limits": limits, "code": f"import os; os.mkdir({str(tmp_path / 'ran')!r})"})
    outcome = call.result(os.waitpid(call.pid, 0)[1], 0.0)
    assert outcome is not None and "landlock" in outcome["error"]
    assert not (tmp_path / "ran").exists()


# A kernel without Landlock: a filter that answers landlock_create_ruleset (444) with ENOSYS.
_NO_LANDLOCK = """
import ctypes, struct, sys
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x50026), (0x06, 0, 0, 0x7fff0000)]
program = b"".join(struct.pack("HBBI", *rule) for rule in rules)
class Prog(ctypes.Structure): _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.byref(Prog(len(rules), program)), 0, 0) == 0
from astune.tools.sandbox import Sandbox
from astune.errors import SandboxError
"""


def without_landlock(script: str) -> str:
    command = [sys.executable, "-c", _NO_LANDLOCK + script]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="takes Landlock away with a Linux call")
def test_required_level_that_is_missing_refuses_to_run(tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'ran')!r}, 'w')"
    script = f"try: Sandbox(require='kernel').run_sync({code!r})\nexcept SandboxError as error: print(error)"
    assert "kernel confinement is required and not available: no Landlock" in without_landlock(script)
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="takes Landlock away with a Linux call")
def test_missing_level_is_named_when_none_is_required() -> None:
    script = "s = Sandbox(); print(s.level, '|', s.start().reason, '|', s.run_sync('print(18)').stdout)"
    level, reason, stdout = (part.strip() for part in without_landlock(script).split("|"))
    assert (level, stdout) == (SandboxLevel.PROCESS, "18")
    assert "no Landlock" in reason


def test_probe_notices_a_hole(kernel: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_everything = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    monkeypatch.setattr(seccomp, "build", lambda pid: allow_everything)
    probe, _ = levels.probe([], SandboxLevel.KERNEL)
    assert (probe.level, probe.reason) == (SandboxLevel.PROCESS, "socket was not stopped")


def test_probe_command_prints_the_level() -> None:
    command = [sys.executable, "-m", "astune.tools.sandbox", "--probe"]
    output = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=120).stdout
    assert set(json.loads(output)) == {"level", "features", "reason"}
