"""A machine that can start no more processes costs no job its record, and a job cannot make it such a machine."""

import json
import subprocess
import sys
import textwrap

import pytest

from tests.autorl_bench.jobs import crowd

UNSHARE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
LOWER = f"echo {crowd.PROCESSES} > /proc/sys/kernel/pid_max"


@pytest.fixture(scope="module")
def few_ids() -> None:
    if subprocess.run([*UNSHARE, "sh", "-c", LOWER], capture_output=True, check=False).returncode != 0:
        pytest.skip("no PID namespace with a limit of its own here")


def record_of(place, script: str, seconds: float, do: str) -> dict:
    arguments = [str(place.workspace), str(place.folder), textwrap.dedent(script), str(seconds), do]
    command = [*UNSHARE, sys.executable, crowd.__file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_full_machine_leaves_the_reason_of_the_stop_alone(few_ids, place):
    script = "import time\nopen('started', 'w').close()\ntime.sleep(600)"
    assert record_of(place, script, 2, "fill")["stop"] == "wall"


@pytest.mark.slow
@pytest.mark.parametrize("evasion", ["pass", "os.setsid()", "os.setpgid(0, 0)"], ids=["none", "session", "group"])
def test_processes_that_start_faster_than_they_are_found_end(few_ids, place, evasion):
    script = f"""
        import os, time
        while True:
            try:
                if os.fork() == 0:
                    {evasion}
            except OSError:
                time.sleep(0.01)
    """
    assert record_of(place, script, 60, "leave")["stop"] == "processes"
