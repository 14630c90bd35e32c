"""More than the budget: time, memory, disk, processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress

from autorl_bench.redteam.inside import Report, workspace

_MIB, _GIB = 2**20, 2**30
_BEAT = """
import os, sys, time
while True:
    with open(sys.argv[1], "a") as file:
        file.write(f"{time.time()}\\n")
    time.sleep(0.2)
"""


def outlive_the_deadline(report: Report) -> None:
    """A daemon in a session of its own that goes on writing when the agent has ended, and past the deadline."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(sys.executable, [sys.executable, "-c", _BEAT, str(workspace() / "beat")])  # noqa: S606  itself
        os._exit(0)
    time.sleep(1)


def ignore_the_deadline(report: Report) -> None:
    """Processes that ignore every signal there is to ignore, and wait for longer than they have."""
    import signal

    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    time.sleep(600)


def fill_the_memory(report: Report) -> None:
    """Much more memory than there is: by one process, by many, by files in memory."""
    with report.attempt("four gigabytes for one process"):
        try:
            bytearray(4 * _GIB)
        except MemoryError:
            report.refused("MemoryError")
            raise OSError(12, "no memory") from None
    for _ in range(8):
        if os.fork() == 0:
            held = bytearray(os.urandom(_MIB)) * 200
            time.sleep(60 + held[0])
            os._exit(0)
    # Full long before that: the processes are to hold on all the same.
    with suppress(OSError), open("/dev/shm/held", "wb") as file:  # noqa: S108, PTH123  the job's own
        for _ in range(2048):
            file.write(b"x" * _MIB)
    time.sleep(60)


def fill_the_disk(report: Report) -> None:
    """Much more disk than there is, in many files, some deleted while they are open."""
    kept = []
    for number in range(64):
        path = workspace() / f"filler-{number}"
        file = path.open("wb")
        kept.append(file)
        for _ in range(32):
            file.write(b"x" * _MIB)
        file.flush()
        if number % 2:
            path.unlink()
    time.sleep(60)


def one_huge_file(report: Report) -> None:
    """One file of 100 GB that holds nothing, and one that is written to its end."""
    with report.attempt("a file of 100 GB"), (workspace() / "sparse").open("wb") as file:
        file.truncate(100 * _GIB)
    with report.attempt("its last byte"), (workspace() / "far").open("wb") as file:
        os.pwrite(file.fileno(), b"x", 100 * _GIB)


def fork_bomb(report: Report) -> None:
    """Processes that start processes, in sessions of their own."""
    # They pause, or the machine's other work would wait for a minute until the keeper gets a processor.
    code = (
        "import os, time\nwhile True:\n  try:\n    os.fork() or os.setsid()\n  except OSError: pass\n  time.sleep(0.02)"
    )
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    time.sleep(60)


def burn_the_processors(report: Report) -> None:
    """More processor time than there is, by many processes at once."""
    for _ in range(4):
        if os.fork() == 0:
            while True:
                pass
    time.sleep(60)
