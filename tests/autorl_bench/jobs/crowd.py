"""Runs one job, at the process level, where process ids are few: in a PID namespace of its own.

Usage: crowd.py WORKSPACE FOLDER SCRIPT WALL_SECONDS fill|leave. ``fill`` takes the ids that are left once the job has
made the file ``started``. Prints the job's record.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from autorl_bench.jobs import JobLimits, JobSpec, LocalJobRunner, python_paths
from tests.autorl_bench.jobs.conftest import wait_until

#: The least that the kernel takes is 301.
PROCESSES = 400


def fill() -> None:
    """Forks until there is no id left; these processes end with the namespace."""
    while True:
        try:
            if os.fork() == 0:
                time.sleep(600)
        except OSError:
            return


async def main(workspace: Path, folder: Path, script: str, seconds: str, crowd: str) -> None:
    command = (sys.executable, "-I", "-S", "-c", script)
    limits = JobLimits(wall_seconds=float(seconds), processes=16)
    spec = JobSpec(command, workspace, readable=python_paths(), limits=limits)
    job = asyncio.create_task(LocalJobRunner(at_most="process").run(spec, folder))
    if crowd == "fill":
        await asyncio.to_thread(wait_until, (workspace / "started").exists, "the job has started")
        fill()
    await job
    print((folder / "record.json").read_text(), flush=True)
    os._exit(0)  # the loop would start a thread to close its executor


if __name__ == "__main__":
    Path("/proc/sys/kernel/pid_max").write_text(str(PROCESSES))
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
