"""The grader's folder: what is published there appears whole or not at all, and several graders may share it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astune.files import fsync, storage_errors
from autorl_bench.processes import has_ended, process_name

#: A scratch folder is named by the process that fills it.
_INCOMING, _END = "incoming-", ":part-"


@contextmanager
def scratch_folder(vault: Path) -> Iterator[Path]:
    """A new folder in the vault, of this caller alone; gone afterwards unless :func:`publish` gave it its name.

    Raises:
        CheckpointError: the vault cannot be written.
    """
    with storage_errors(vault):
        vault.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{_INCOMING}{process_name(os.getpid())}{_END}", dir=vault))
    try:
        yield scratch
    finally:
        if scratch.exists():
            shutil.rmtree(scratch)


def publish(scratch: Path, target: Path) -> None:
    """Makes the filled ``scratch`` durable and gives it the name ``target``, which stands for its content.

    A folder that already has the name has the same content, and stays.

    Raises:
        CheckpointError: the vault cannot be written.
    """
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch.chmod(0o755)  # mkdtemp's 0700 would keep out an evaluator that is another user
        for written in (*scratch.iterdir(), scratch):
            fsync(written)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        fsync(target.parent)


def remove_unfinished(vault: Path) -> int:
    """Deletes what processes of this host left behind when they died, and says how many folders."""
    removed = 0
    for folder in vault.glob(f"{_INCOMING}*{_END}*"):
        owner = folder.name.removeprefix(_INCOMING).rpartition(_END)[0]
        if has_ended(owner):
            shutil.rmtree(folder, ignore_errors=True)  # another may be at it, too
            removed += 1
    return removed
