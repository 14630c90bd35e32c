"""Each limit ends the whole job, and the record says which it was."""

import pytest

from autorl_bench.jobs import JobLimits, JobStop
from tests.autorl_bench.jobs.conftest import alive

#: Detaches itself twice over, from session and parents, and stays.
DAEMON = """
    import os, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            open("daemon", "w").close()
            time.sleep(600)
        os._exit(0)
    os.wait()
    while not os.path.exists("daemon"):
        time.sleep(0.01)
    if sys.argv[1] == "stay":
        time.sleep(600)
"""


@pytest.mark.parametrize("stay", ["stay", "leave"])
async def test_a_daemon_does_not_outlive_its_job(place, runner, nonce, nothing_left, stay):
    record = await place.run(runner, DAEMON, stay, nonce, limits={"wall_seconds": 3 if stay == "stay" else 60})
    assert (place.workspace / "daemon").exists()
    assert record.stop == (JobStop.WALL if stay == "stay" else JobStop.EXIT)
    assert alive(nonce) == []


async def test_a_fork_bomb_is_ended(place, runner, nonce, nothing_left):
    bomb = "import os, time\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        time.sleep(0.01)"
    record = await place.run(runner, bomb, nonce)
    assert record.stop == JobStop.PROCESSES
    assert record.usage.peak_processes > 16
    assert alive(nonce) == []


async def test_the_memory_of_many_processes_is_one_budget(place, runner):
    script = """
        import os, time
        for _ in range(4):
            if os.fork() == 0:
                kept = b"x" * (40 << 20)
                time.sleep(600)
        time.sleep(600)
    """
    record = await place.run(runner, script, limits={"memory": 100 << 20})
    assert record.stop == JobStop.MEMORY
    assert record.usage.peak_memory > 100 << 20


async def test_one_process_cannot_reserve_more_than_the_memory(place, runner):
    record = await place.run(runner, "b'x' * (200 << 20)", limits={"memory": 100 << 20})
    assert (record.stop, record.exit_code) == (JobStop.EXIT, 1)
    assert "MemoryError" in place.stderr


async def test_memory_that_forks_share_is_counted_once(place, kernel_runner):
    script = """
        import os, time
        kept = b"x" * (40 << 20)
        for _ in range(4):
            if os.fork() == 0:
                time.sleep(1)
                os._exit(0)
        for _ in range(4):
            os.wait()
    """
    record = await place.run(kernel_runner, script, limits={"memory": 100 << 20})
    assert record.stop == JobStop.EXIT


async def test_a_process_whose_first_thread_has_ended_is_measured_and_ended(place, runner, nonce, nothing_left):
    script = """
        import ctypes, os, threading, time
        def hold():
            kept = b"x" * (60 << 20)
            time.sleep(600)
        os.fork()
        threading.Thread(target=hold).start()
        ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
    """
    record = await place.run(runner, script, nonce, limits={"memory": 100 << 20})
    assert record.stop == JobStop.MEMORY
    assert alive(nonce) == []


async def test_a_process_may_have_any_name(place, runner):
    script = "import ctypes, time\nctypes.CDLL(None).prctl(15, b'\\xff)\\xfe', 0, 0, 0)\ntime.sleep(600)"
    record = await place.run(runner, script, limits={"wall_seconds": 1})
    assert record.stop == JobStop.WALL


async def test_many_files_fill_the_disk_budget(place, runner):
    script = """
        import itertools
        for name in itertools.count():
            with open(str(name), "wb") as file:
                file.write(b"x" * (1 << 20))
                file.flush()
    """
    record = await place.run(runner, script, limits={"disk": 8 << 20})
    assert record.stop == JobStop.DISK


async def test_deleted_files_that_are_open_fill_it_too(place, kernel_runner):
    script = """
        import os, time
        kept = []
        for name in range(12):
            kept.append(open(str(name), "wb"))
            os.unlink(str(name))
            kept[-1].write(b"x" * (1 << 20))
            kept[-1].flush()
        time.sleep(600)
    """
    record = await place.run(kernel_runner, script, limits={"disk": 8 << 20})
    assert record.stop == JobStop.DISK


async def test_a_folder_that_becomes_a_link_is_measured_as_nothing(place, process_runner):
    script = """
        import os, time
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            os.mkdir("folder")
            os.rmdir("folder")
            os.symlink("/usr", "folder")
            os.unlink("folder")
    """
    assert (await place.run(process_runner, script)).stop == JobStop.EXIT


async def test_a_huge_sparse_file_is_refused(place, runner):
    record = await place.run(runner, "open('sparse', 'wb').truncate(100 << 30)")
    assert record.exit_code == 1
    assert "File too large" in place.stderr


async def test_the_temporary_folder_is_part_of_the_disk_budget(place, runner):
    script = """
        import os, time
        for name in range(12):
            with open(os.path.join(os.environ["TMPDIR"], str(name)), "wb") as file:
                file.write(b"x" * (1 << 20))
        time.sleep(600)
    """
    record = await place.run(runner, script, limits={"disk": 8 << 20})
    assert record.stop == JobStop.DISK


async def test_processor_time_of_children_counts(place, runner):
    script = """
        import os
        for _ in range(2):
            if os.fork() == 0:
                while True:
                    pass
        os.wait()
        os.wait()
    """
    record = await place.run(runner, script, limits={"cpu_seconds": 1})
    assert record.stop == JobStop.CPU
    assert record.usage.cpu_seconds > 1


async def test_the_processor_time_of_ended_children_is_in_the_record(place, runner):
    script = """
        import os, time
        for _ in range(3):
            if os.fork() == 0:
                while time.process_time() < 0.2:
                    pass
                os._exit(0)
            os.wait()
    """
    record = await place.run(runner, script)
    assert (record.stop, record.exit_code) == (JobStop.EXIT, 0)
    assert record.usage.cpu_seconds >= 0.6


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_limit_must_be_positive_and_finite(value):
    with pytest.raises(ValueError, match="wall_seconds must be positive and finite"):
        JobLimits(wall_seconds=value)
