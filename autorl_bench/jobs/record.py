"""A job's folder: its specification, its record, its output; and the end of what a dead supervisor left in it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
from pydantic import TypeAdapter, ValidationError

from astune.errors import CheckpointError
from astune.files import atomic_write
from astune.leftovers import MARK, birth
from autorl_bench.jobs.types import JobRecord, JobSpec, JobStop, Process

RECORD, STDOUT, STDERR, TEMPORARY, SCRATCH = "record.json", "stdout.log", "stderr.log", "tmp", "root"
#: What the keeper said of its own troubles; not there when it had none.
KEEPER_LOG = "keeper.log"
NAMES = (RECORD, STDOUT, STDERR, TEMPORARY, SCRATCH, KEEPER_LOG)
_SAID = 500
_RECORDS = TypeAdapter(JobRecord)
_PATIENCE = 10.0


def make(folder: Path, spec: JobSpec) -> Path:
    """Makes the folder of a job that is to be started; returns its full path.

    Raises:
        ValueError: the job could see what is in it.
        FileExistsError: it holds another job.
    """
    folder = folder.resolve()
    spec.check_hidden(tuple(folder / name for name in NAMES))
    if (folder / RECORD).exists():
        raise FileExistsError(f"{folder} holds the record of another job")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (TEMPORARY, SCRATCH):
        (folder / name).mkdir(exist_ok=True)
    return folder


def this_process(pid: int) -> Process:
    """The process that has this id now. Raises ProcessLookupError when it has ended."""
    if (born := birth(pid)) is None:
        raise ProcessLookupError(f"process {pid} has ended")
    return Process(pid, born)


def is_alive(process: Process) -> bool:
    """Whether this very process still runs."""
    return birth(process.pid) == process.birth


def write(folder: Path, record: JobRecord) -> None:
    """Replaces the record in one step. Raises CheckpointError when the folder cannot be written."""
    atomic_write(folder / RECORD, _RECORDS.dump_json(record, indent=2))


def read(folder: Path) -> JobRecord | None:
    """The job's record; None when there is none, so that no code of the job has run.

    Raises:
        CheckpointError: the record is not one.
    """
    try:
        return _RECORDS.validate_json((folder / RECORD).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise CheckpointError(f"{folder / RECORD} is no record of a job: {problem}; remove the folder") from error


def end(folder: Path) -> JobRecord | None:
    """Ends what is left of a job whose supervisor is gone, and closes its record; other jobs are left alone.

    Raises:
        CheckpointError: the record is damaged, or something of the job does not end.
    """
    record = read(folder)
    if record is None:
        return None
    if record.stop is None:
        if is_alive(record.supervisor) and is_alive(record.keeper):
            return record
        record = _close(record, folder)
    clean(folder)
    return record


def _close(record: JobRecord, folder: Path) -> JobRecord:
    if not _wait([record.keeper]):  # it sees that the supervisor is gone, and ends the job in good order
        kill(record.keeper)
        _wait([record.keeper])
    record = read(folder) or record
    _end_all(record, folder)
    if record.stop is None:
        problem = keeper_said(folder) or "its keeper was killed"
        record = replace(record, stop=JobStop.INTERRUPTED, problem=problem)
        write(folder, record)
    return record


def keeper_said(folder: Path) -> str:
    """The end of what the keeper said of its own troubles, or nothing."""
    try:
        return (folder / KEEPER_LOG).read_text(errors="replace").strip()[-_SAID:]
    except OSError:
        return ""


def _end_all(record: JobRecord, folder: Path) -> None:
    """Again and again, because what is being ended may start new processes meanwhile."""
    deadline = time.monotonic() + _PATIENCE
    while left := [process for process in (record.first, *_marked(record.mark)) if is_alive(process)]:
        if time.monotonic() > deadline:
            raise CheckpointError(f"processes of the job in {folder} do not end: {[process.pid for process in left]}")
        for process in left:
            kill(process)
        _wait(left)


def clean(folder: Path) -> None:
    """Removes what only a running job needs; by ``rm``, because Python's own way fails on a very deep folder.

    Where no process can be started now, the next call removes it.
    """
    left = [folder / name for name in (TEMPORARY, SCRATCH) if (folder / name).exists()]
    with suppress(OSError):
        if left:
            subprocess.run(["rm", "-rf", "--", *left], check=False, capture_output=True)
        if not keeper_said(folder):
            (folder / KEEPER_LOG).unlink(missing_ok=True)


def _marked(mark: str) -> Iterator[Process]:
    """This user's processes whose environment carries the mark."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):  # ended, or not ours to see
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                yield this_process(process.pid)


def kill(process: Process) -> None:
    """Kills this very process, unless it has ended; never another that was given its id since."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process.pid)
        try:
            if is_alive(process):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _wait(processes: list[Process]) -> bool:
    """Whether all of them have ended within the patience."""
    deadline = time.monotonic() + _PATIENCE
    while any(map(is_alive, processes)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
