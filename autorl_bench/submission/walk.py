"""Reads everything that can be read in a workspace: no link followed, bounded in depth, number and bytes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from autorl_bench.submission.inventory import printable
from autorl_bench.submission.paths import open_folder, open_regular
from autorl_bench.submission.reasons import SubmissionRefused

_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """Bounds on what is read of a workspace; the rest is counted, and reported as not read."""

    files: int = 100_000
    depth: int = 40
    file_bytes: int = 64 * 2**20
    total_bytes: int = 256 * 2**20


@dataclass(slots=True)
class Coverage:
    """How much of a workspace was read."""

    files_read: int = 0
    bytes_read: int = 0
    unread: int = 0
    examples: list[str] = field(default_factory=list)

    def missed(self, what: str) -> None:
        """Counts a file or folder that was not read to its end."""
        self.unread += 1
        if len(self.examples) < 5:
            self.examples.append(what)


@dataclass(frozen=True, slots=True, order=True)
class _Found:
    size: int
    parts: tuple[str, ...]


def read_workspace(workspace: Path, limits: ScanLimits, coverage: Coverage) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yields each regular file, the smallest first, as its path and its content in pieces.

    Small ones first, so that no large file can use up the bound before a leaked list of problems is seen. What the
    agent removes or locks while this goes on counts as not read.
    """
    for found in sorted(_files(workspace, limits, coverage)):
        shown = printable("/".join(found.parts))
        allowed = min(limits.file_bytes, limits.total_bytes - coverage.bytes_read)
        if allowed <= 0:
            coverage.missed(shown)
            continue
        try:
            with _open(workspace, found.parts) as file:
                yield shown, _pieces(file, allowed, coverage)
                if os.read(file, 1):
                    coverage.missed(shown)
        except (SubmissionRefused, OSError):
            coverage.missed(shown)
        else:
            coverage.files_read += 1


def _files(workspace: Path, limits: ScanLimits, coverage: Coverage) -> list[_Found]:
    """The regular files; an own stack, because a folder can be nested deeper than functions can."""
    found: list[_Found] = []
    folders: list[tuple[str, ...]] = [()]
    while folders:
        parts = folders.pop()
        try:
            with open_folder(workspace, parts) as folder, os.scandir(folder) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    path = (*parts, entry.name)
                    if stat.S_ISDIR(status.st_mode) and len(path) <= limits.depth:
                        folders.append(path)
                    elif stat.S_ISREG(status.st_mode) and len(found) < limits.files:
                        found.append(_Found(status.st_size, path))
                    elif not stat.S_ISLNK(status.st_mode):
                        coverage.missed(printable("/".join(path)))
        except (SubmissionRefused, OSError):
            coverage.missed(printable("/".join(parts)))
    return found


@contextmanager
def _open(workspace: Path, parts: tuple[str, ...]) -> Iterator[int]:
    with open_folder(workspace, parts[:-1]) as folder, open_regular(folder, parts[-1]) as file:
        yield file


def _pieces(file: int, allowed: int, coverage: Coverage) -> Iterator[bytes]:
    while allowed and (piece := os.read(file, min(_CHUNK, allowed))):
        allowed -= len(piece)
        coverage.bytes_read += len(piece)
        yield piece
