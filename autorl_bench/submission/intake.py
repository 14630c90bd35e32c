"""Copies a submitted folder into the grader's vault: bounded, without links, named by the hash of what was copied.

Everything later reads the copy. The agent may go on writing to its workspace (a daemon that outlives the
deadline will): the vault's files are files of their own, in a folder that the agent cannot write.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from astune.errors import UserError
from astune.files import storage_errors
from autorl_bench.submission.inventory import Role, printable, role_of
from autorl_bench.submission.limits import Limits
from autorl_bench.submission.paths import check_regular, open_file, open_folder, parts_inside
from autorl_bench.submission.reasons import Invalid, SubmissionRefused
from autorl_bench.submission.replaced import replaced_files
from autorl_bench.submission.vault import publish, scratch_folder

_CHUNK = 2**20
_SUBMITTED = "submitted"


@dataclass(frozen=True, slots=True)
class CopiedFile:
    """One file as it lies in the vault."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Copied:
    """A submission in the vault: its folder, the hash over names and contents, its files, and what was left out.

    ``replaced``: files among those left out that say something else than the base model's.
    """

    folder: Path
    sha256: str
    files: tuple[CopiedFile, ...]
    ignored: tuple[str, ...]
    replaced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileState:
    """What changes when a file is written to or replaced."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileState:
        """The state that a status tells."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def take_in(
    submission_path: str,
    workspace: Path,
    vault: Path,
    limits: Limits,
    total_bytes: int,
    check: Callable[[Path, str], object] = lambda copy, digest: None,
    base: Path | None = None,
) -> Copied:
    """Copies the model files of a submission to ``vault/submitted/{sha256}``, which appears whole or not at all.

    The same content submitted twice is kept once. Files that the grader takes from the base model, and folders,
    are left out and named in ``ignored``.

    Args:
        submission_path: as in the request, see :func:`~autorl_bench.submission.paths.parts_inside`.
        workspace: the run's own folder.
        vault: a folder of the grader's that no agent can write; not inside the workspace.
        limits: bounds on the numbers of entries and files and on the size of JSON files.
        total_bytes: bound on the sum of the file sizes.
        check: called with the copy and its digest before it is published; when it raises, nothing stays in the vault.
        base: the base model's folder, with which the files that are left out are compared.

    Raises:
        SubmissionRefused: the folder breaks a rule, or changed while it was copied.
        CheckpointError: the vault cannot be written.
        UserError: the vault lies inside the workspace.
    """
    if vault.resolve().is_relative_to(workspace.resolve()):
        raise UserError(f"the vault {vault} lies inside the workspace {workspace}: agents could write it")
    parts = parts_inside(submission_path, workspace)
    with open_folder(workspace, parts) as folder:
        names, ignored = _inventory(folder, limits)
        before = _sizes_checked(folder, names, limits, total_bytes)
        with scratch_folder(vault) as scratch:
            files = tuple(copy_file(folder, name, before[name], scratch / name) for name in names)
            check_unchanged(folder, before)
            digest = _digest(files)
            target = vault / _SUBMITTED / digest
            check(scratch, digest)
            replaced = () if base is None else replaced_files(folder, ignored, base)
            publish(scratch, target)
    return Copied(target, digest, files, ignored, replaced)


def _inventory(folder: int, limits: Limits) -> tuple[list[str], tuple[str, ...]]:
    """Names of the files to copy (sorted) and of what is left out; refuses what may not be there at all."""
    names: list[str] = []
    ignored: list[str] = []
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries, start=1):
            if number > limits.entries:
                raise SubmissionRefused(Invalid.TOO_MANY_FILES, f"There are more than {limits.entries} entries")
            if entry.is_dir(follow_symlinks=False):
                ignored.append(f"{printable(entry.name)}/")
                continue
            check_regular(status_of(folder, entry.name), printable(entry.name))
            if role_of(entry.name) is Role.MODEL:
                names.append(entry.name)
            else:
                ignored.append(printable(entry.name))
    if len(names) > limits.files:
        raise SubmissionRefused(Invalid.TOO_MANY_FILES, f"There are {len(names)} model files, at most {limits.files}")
    return sorted(names), tuple(sorted(ignored))


def status_of(folder: int, name: str) -> os.stat_result:
    """What ``name`` in the open folder is, itself and not what it links to.

    Raises:
        SubmissionRefused: it is gone.
    """
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError as error:
        raise SubmissionRefused(Invalid.CHANGED_WHILE_COPIED, f"{printable(name)} vanished") from error


def _sizes_checked(folder: int, names: list[str], limits: Limits, total_bytes: int) -> dict[str, FileState]:
    """The state of each file; all sizes are checked before the first byte is copied."""
    states = {name: FileState.of(status_of(folder, name)) for name in names}
    for name, state in states.items():
        if name.endswith(".json") and state.size > limits.json_bytes:
            raise SubmissionRefused(Invalid.TOO_LARGE, f"{name} has {state.size} bytes, at most {limits.json_bytes}")
    total = sum(state.size for state in states.values())
    if total > total_bytes:
        raise SubmissionRefused(
            Invalid.TOO_LARGE, f"The model files have {total} bytes together, at most {total_bytes}"
        )
    return states


def copy_file(folder: int, name: str, expected: FileState, target: Path) -> CopiedFile:
    """Copies one file and hashes the bytes that were copied; never reads more than the size that was checked.

    Raises:
        SubmissionRefused: it is not the file that was looked at, or changed since.
        CheckpointError: ``target`` cannot be written.
    """
    digest = hashlib.sha256()
    with open_file(folder, name) as source:
        if FileState.of(os.fstat(source)) != expected:
            raise SubmissionRefused(Invalid.CHANGED_WHILE_COPIED, f"{name} was replaced or written to")
        left = expected.size
        with storage_errors(target):
            copy = target.open("xb")
        try:
            while left and (chunk := os.read(source, min(_CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
                with storage_errors(target):
                    copy.write(chunk)
                    copy.flush()
            os.fchmod(copy.fileno(), 0o444)
        finally:
            # Each piece was flushed, so that closing has nothing to write; after a failed flush it fails once more.
            with suppress(OSError):
                copy.close()
        if left:
            raise SubmissionRefused(Invalid.CHANGED_WHILE_COPIED, f"{name} became shorter")
    return CopiedFile(name, expected.size, digest.hexdigest())


def check_unchanged(folder: int, before: dict[str, FileState]) -> None:
    """The files belong together: at the end each name still stands for what was copied.

    Raises:
        SubmissionRefused: one was replaced or written to.
    """
    for name, state in before.items():
        if FileState.of(status_of(folder, name)) != state:
            raise SubmissionRefused(Invalid.CHANGED_WHILE_COPIED, f"{name} was replaced or written to")


def _digest(files: tuple[CopiedFile, ...]) -> str:
    lines = (f"{file.sha256} {file.size} {file.name}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
