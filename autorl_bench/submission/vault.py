"""The grader's folder: what is published there appears whole or not at all, and several graders may share it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astune.files import fsync, storage_errors

_INCOMING = "incoming-"


@contextmanager
def scratch_folder(vault: Path) -> Iterator[Path]:
    """A new folder in the vault, of this caller alone; gone afterwards unless :func:`publish` gave it its name.

    Raises:
        CheckpointError: the vault cannot be written.
    """
    with storage_errors(vault):
        vault.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=vault))
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
    """Deletes what graders left behind when they died, and says how many; call it while none is at work."""
    left = [*vault.glob(f"{_INCOMING}*")]
    for folder in left:
        shutil.rmtree(folder)
    return len(left)
