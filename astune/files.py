"""Files that are whole or absent: write, fsync, rename; and what a full or read-only disk is called."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astune.errors import CheckpointError

_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an ``OSError`` about ``path`` into a message with a remedy.

    Raises:
        CheckpointError: the folder is read-only, full, or otherwise not writable.
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(_explain(error, path)) from error


def _explain(error: OSError, path: Path) -> str:
    if error.errno in _READ_ONLY:
        return f"cannot write {path}: the folder is read-only for this user; make it writable or choose another folder"
    if error.errno in _FULL:
        return f"cannot write {path}: no space left there; free some and start again, what was saved before is whole"
    return f"cannot write {path}: {error.strerror or error}; choose another folder or repair this one"


def fsync(path: Path) -> None:
    """Makes a file's content, or the renames inside a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary file beside ``path`` to fill; on success it becomes ``path``, on error nothing changes.

    For writers that insist on a file name (safetensors, matplotlib). A process that dies midway leaves
    ``path`` as it was, and a ``.{name}.part`` that the next write of the same file takes over; two
    processes must not write one file at once.

    Raises:
        CheckpointError: the folder is read-only or full.
    """
    temporary = path.with_name(f".{path.name}.part")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    """Flushes ``temporary`` to the disk and gives it its name."""
    fsync(temporary)
    temporary.replace(path)
    fsync(path.parent)


def atomic_write(path: Path, data: bytes | str) -> None:
    """Writes ``data`` (text as UTF-8) to ``path``: readers see the old content or the new, never a part.

    Raises:
        CheckpointError: the folder is read-only or full; the old content is still there.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a scratch folder that becomes ``path`` (not there yet) when the block ends, and vanishes if it fails.

    A process that dies midway leaves at most ``.writing-{name}``, which the next attempt removes.
    """
    scratch = path.with_name(f".writing-{path.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True)
        yield scratch
        for written in (*scratch.rglob("*"), scratch):
            fsync(written)
        scratch.rename(path)
        fsync(path.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
