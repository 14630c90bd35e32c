"""Copies a folder of code out of a workspace: bounded, without links, and unchanged from its first look to its last."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from astune.config.section import Section
from astune.files import storage_errors
from autorl_bench.submission.intake import FileState, check_unchanged, copy_file, status_of
from autorl_bench.submission.inventory import printable
from autorl_bench.submission.limits import Count
from autorl_bench.submission.paths import check_regular, open_folder
from autorl_bench.submission.reasons import Invalid, SubmissionRefused

#: What Python makes of code by itself. Compiled code need not say what its source says, so that it is made anew.
_LEFT_OUT = frozenset({"__pycache__"})

_Parts = tuple[str, ...]


class TreeLimits(Section):
    """Bounds on a folder of code. ``total_bytes`` keeps weights out: what is replayed trains from the base model."""

    entries: Count = 1_000
    depth: Annotated[int, Field(ge=1)] = 12
    total_bytes: Count = 2**20


def copy_tree(workspace: Path, parts: _Parts, target: Path, limits: TreeLimits) -> int:
    """Copies the folder ``parts`` below ``workspace`` to ``target`` (new), and returns how many bytes that were.

    Compiled Python is left out. All is looked at before the first byte is copied.

    Raises:
        SubmissionRefused: a link, a special file, too much of anything, or it changed meanwhile.
        CheckpointError: ``target`` cannot be written.
    """
    with storage_errors(target):
        target.mkdir(parents=True)
    folders = list(_walk(workspace, parts, limits))
    total = sum(state.size for _, files in folders for state in files.values())
    if total > limits.total_bytes:
        raise SubmissionRefused(Invalid.TOO_LARGE, f"There are {total} bytes of code, at most {limits.total_bytes}")
    for below, files in folders:
        with storage_errors(target):
            target.joinpath(*below).mkdir(exist_ok=True)
        with open_folder(workspace, (*parts, *below)) as folder:
            for name, state in files.items():
                copy_file(folder, name, state, target.joinpath(*below, name))
    for below, files in folders:
        with open_folder(workspace, (*parts, *below)) as folder:
            check_unchanged(folder, files)
    return total


def _walk(workspace: Path, parts: _Parts, limits: TreeLimits) -> Iterator[tuple[_Parts, dict[str, FileState]]]:
    """Each folder before those in it, with its files."""
    waiting: list[_Parts] = [()]
    seen = 0
    while waiting:
        below = waiting.pop()
        files: dict[str, FileState] = {}
        with open_folder(workspace, (*parts, *below)) as folder, os.scandir(folder) as entries:
            for entry in entries:
                seen += 1
                if seen > limits.entries:
                    raise SubmissionRefused(Invalid.TOO_MANY_FILES, f"There are more than {limits.entries} entries")
                if entry.name in _LEFT_OUT:
                    continue
                path = (*below, entry.name)
                status = status_of(folder, entry.name)
                if not stat.S_ISDIR(status.st_mode):
                    check_regular(status, printable("/".join(path)))
                    files[entry.name] = FileState.of(status)
                elif len(path) >= limits.depth:
                    shown = printable("/".join(path))
                    raise SubmissionRefused(Invalid.TOO_MANY_FILES, f"{shown} lies deeper than {limits.depth} folders")
                else:
                    waiting.append(path)
        yield below, files
