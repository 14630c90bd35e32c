"""From the path in a request to an open folder: nothing outside the workspace, no link on the way.

The path is taken apart as text first (no ``..`` survives), then opened one name at a time, each relative to
the folder opened before and with ``O_NOFOLLOW``. What is held in the end is the folder itself, not its name,
so that renaming or replacing any part of the path afterwards changes nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from autorl_bench.submission.reasons import Invalid, SubmissionRefused

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # not blocking: opening a pipe returns at once
_LONGEST_PATH = 4096
_LONGEST_NAME = 255


def parts_inside(submission_path: str, workspace: Path) -> tuple[str, ...]:
    """The names that lead from ``workspace`` to the submission; at least one, none of them ``..``.

    Three spellings are understood: absolute, relative to the workspace (``output/model``), and as the
    seed's clients send it (``workspace/{scenario}_{timestamp}/output/model``).

    Raises:
        SubmissionRefused: the path is malformed, leaves the workspace, or is the workspace itself.
    """
    _check_text(submission_path)
    path = PurePosixPath(submission_path)
    shown = repr(submission_path[:200])
    if ".." in path.parts:
        raise SubmissionRefused(Invalid.OUTSIDE_WORKSPACE, f"The path {shown} goes up with '..'")
    if path.is_absolute():
        roots = [root for root in (workspace.absolute(), workspace.resolve()) if path.is_relative_to(root)]
        if not roots:
            raise SubmissionRefused(Invalid.OUTSIDE_WORKSPACE, f"The path {shown} is not in the run's workspace")
        path = path.relative_to(roots[0])
    elif path.is_relative_to(PurePosixPath("workspace", workspace.name)):
        path = path.relative_to(PurePosixPath("workspace", workspace.name))
    elif path.parts[:1] == ("workspace",):
        raise SubmissionRefused(Invalid.OUTSIDE_WORKSPACE, f"The path {shown} names another run's workspace")
    if not path.parts:
        raise SubmissionRefused(Invalid.BAD_PATH, f"The path {shown} names the workspace itself")
    return path.parts


def _check_text(submission_path: str) -> None:
    try:
        encoded = submission_path.encode()
    except UnicodeEncodeError as error:
        raise SubmissionRefused(Invalid.BAD_PATH, "The path is not valid Unicode") from error
    if not submission_path or not submission_path.isprintable():
        raise SubmissionRefused(Invalid.BAD_PATH, "The path is empty or holds control characters")
    if len(encoded) > _LONGEST_PATH or any(len(name) > _LONGEST_NAME for name in encoded.split(b"/")):
        raise SubmissionRefused(Invalid.BAD_PATH, "The path is longer than a path can be")


@contextmanager
def open_folder(workspace: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """Yields a descriptor of the folder ``parts`` below ``workspace``, opened name by name without following links.

    Raises:
        SubmissionRefused: a part is missing, a link, a mount point, not a folder, or not readable.
        FileNotFoundError: the workspace itself is gone (not the submission's fault).
    """
    opened = [os.open(workspace, _FOLDER)]
    try:
        device = os.fstat(opened[0]).st_dev
        for depth, name in enumerate(parts, start=1):
            shown = "/".join(parts[:depth])
            opened.append(_open(name, opened[-1], _FOLDER, shown))
            if os.fstat(opened[-1]).st_dev != device:
                raise SubmissionRefused(Invalid.OUTSIDE_WORKSPACE, f"{shown} is another file system mounted there")
        yield opened[-1]
    finally:
        for descriptor in opened:
            os.close(descriptor)


@contextmanager
def open_file(folder: int, name: str) -> Iterator[int]:
    """Yields a descriptor of the regular file ``name`` in the open ``folder``; it has no other name (hard link).

    Raises:
        SubmissionRefused: it is missing, a link, not a regular file, or not readable.
    """
    with open_regular(folder, name) as descriptor:
        check_regular(os.fstat(descriptor), name)
        yield descriptor


@contextmanager
def open_regular(folder: int, name: str) -> Iterator[int]:
    """Like :func:`open_file`, for reading what is there rather than for taking it in: hard links are read, too.

    Raises:
        SubmissionRefused: it is missing, a symbolic link, not a regular file, or not readable.
    """
    descriptor = _open(name, folder, _FILE, name)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SubmissionRefused(Invalid.SPECIAL_FILE, f"{name} is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def check_regular(status: os.stat_result, name: str) -> None:
    """Refuses everything but a regular file with one name.

    Raises:
        SubmissionRefused: a link of either kind, a pipe, socket, device or folder.
    """
    if stat.S_ISLNK(status.st_mode):
        raise SubmissionRefused(Invalid.LINK, f"{name} is a symbolic link")
    if not stat.S_ISREG(status.st_mode):
        raise SubmissionRefused(Invalid.SPECIAL_FILE, f"{name} is not a regular file")
    if status.st_nlink > 1:
        raise SubmissionRefused(Invalid.LINK, f"{name} is one of {status.st_nlink} hard links to the same file")


def _open(name: str, folder: int, flags: int, shown: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError as error:
        raise _explain(error, name, folder, shown) from error


def _explain(error: OSError, name: str, folder: int, shown: str) -> Exception:
    """The refusal that an ``OSError`` stands for; errors of the machine stay what they are."""
    if error.errno in {errno.ELOOP, errno.ENOTDIR}:
        if _is_link(name, folder):
            return SubmissionRefused(Invalid.LINK, f"{shown} is a symbolic link")
        return SubmissionRefused(Invalid.NOT_A_FOLDER, f"{shown} is not a folder")
    if error.errno == errno.ENOENT:
        return SubmissionRefused(Invalid.NOT_FOUND, f"{shown} does not exist")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return SubmissionRefused(Invalid.UNREADABLE, f"{shown} cannot be opened")
    if error.errno == errno.ENXIO:
        return SubmissionRefused(Invalid.SPECIAL_FILE, f"{shown} is not a regular file")
    return error


def _is_link(name: str, folder: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False  # replaced since: what it was is not known, and does not matter
