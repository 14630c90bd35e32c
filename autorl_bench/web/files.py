"""What a run's pages show of its files: bounded, no link followed, nothing outside the run's own folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from autorl_bench.store.tokens import RUN_ID
from autorl_bench.submission.inventory import printable
from autorl_bench.submission.paths import open_file, open_folder, parts_inside
from autorl_bench.submission.reasons import SubmissionRefused

#: Names that nobody wants to read.
_SKIPPED = frozenset({"__pycache__"})
_STREAMS = ("stdout.log", "stderr.log")


@dataclass(frozen=True, slots=True)
class FileLimits:
    """Bounds on what one page shows of files: bytes of each, bytes of all, files of one folder.

    ``depth``, ``folders`` and ``names`` bound how far a folder is looked through.
    """

    file_bytes: int = 48 * 2**10
    total_bytes: int = 2 * 2**20
    files: int = 24
    depth: int = 4
    folders: int = 100
    names: int = 500


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A file's text as far as it is shown; ``note`` says what is missing, or why there is nothing."""

    name: str
    text: str
    note: str = ""


class RunFiles:
    """Reads files of one run, all its pieces within one bound.

    Args:
        home: The benchmark's folder, which has ``workspace/`` and ``log/``.
        run_id: Whose.
        limits: Bounds on everything together.

    Raises:
        ValueError: an id that could name another folder.
    """

    def __init__(self, home: Path, run_id: str, limits: FileLimits | None = None) -> None:
        if not RUN_ID.fullmatch(run_id):
            raise ValueError(f"{run_id!r} is no id of a run")
        self.workspace, self.log = home / "workspace" / run_id, home / "log" / run_id
        self._limits = limits or FileLimits()
        self._left = self._limits.total_bytes
        self._folders_left = self._limits.folders

    def read(self, path: str, *, end: bool = False) -> list[ShownFile]:
        """A file of the workspace, or the files of a folder there, as an agent names it.

        ``end`` shows the end of a file that is too long rather than its beginning. What cannot be shown is one
        :class:`ShownFile` with a note.
        """
        try:
            parts = parts_inside(path, self.workspace)
        except SubmissionRefused as refusal:
            return [ShownFile(printable(path[:200]), "", refusal.reason.message)]
        return self._read(self.workspace, parts, end)

    def logs(self) -> list[ShownFile]:
        """Output of the run's jobs (agent-1, agent-2, ..., replay): the ends of stdout.log and stderr.log."""
        try:
            with open_folder(self.log, ()) as folder:
                jobs = [name for name, is_folder in self._names(folder) if is_folder]
        except OSError:
            return []
        shown = []
        for job in jobs[: self._limits.files]:
            found = [self._read(self.log, (job, name), True, shown=f"{job}/{name}")[0] for name in _STREAMS]
            shown += [file for file in found if file.text]
        return shown

    def _read(self, root: Path, parts: tuple[str, ...], end: bool, shown: str = "") -> list[ShownFile]:
        name = printable(shown or "/".join(parts))
        try:
            with open_folder(root, parts[:-1]) as folder:
                if not _is_folder(folder, parts[-1]):
                    with open_file(folder, parts[-1]) as file:
                        return [self._text(file, name, end)]
            return self._folder(root, parts, end)
        except SubmissionRefused as refusal:
            return [ShownFile(name, "", refusal.reason.message.partition(". ")[0])]
        except OSError as error:
            return [ShownFile(name, "", error.strerror or "cannot be read")]

    def _folder(self, root: Path, parts: tuple[str, ...], end: bool) -> list[ShownFile]:
        found = list(islice(self._walk(root, parts), self._limits.files + 1))
        shown = [self._read(root, path, end)[0] for path in found[: self._limits.files]]
        if len(found) > self._limits.files:
            shown.append(ShownFile(printable("/".join(parts)), "", f"more than {self._limits.files} files"))
        return shown or [ShownFile(printable("/".join(parts)), "", "an empty folder")]

    def _walk(self, root: Path, parts: tuple[str, ...], depth: int = 0) -> Iterator[tuple[str, ...]]:
        if self._folders_left <= 0:
            return
        self._folders_left -= 1
        with open_folder(root, parts) as folder:
            names = self._names(folder)
        yield from ((*parts, name) for name, is_folder in names if not is_folder)
        for name, is_folder in names:
            if is_folder and depth < self._limits.depth:
                yield from self._walk(root, (*parts, name), depth + 1)

    def _names(self, folder: int) -> list[tuple[str, bool]]:
        """Names in an open folder and whether each is a folder, in order; no hidden ones."""
        with os.scandir(folder) as entries:
            seen = [(one.name, one.is_dir(follow_symlinks=False)) for one in islice(entries, self._limits.names)]
        return sorted((name, folder) for name, folder in seen if name not in _SKIPPED and not name.startswith("."))

    def _text(self, file: int, name: str, end: bool) -> ShownFile:
        size = os.fstat(file).st_size
        length = min(self._limits.file_bytes, self._left)
        if not length and size:
            return ShownFile(name, "", f"{size:,} bytes, not shown: this page shows no more")
        data = os.pread(file, length, max(0, size - length) if end else 0)
        self._left -= len(data)
        if b"\x00" in data:
            return ShownFile(name, "", f"{size:,} bytes, not a text")
        part = f"the {'last' if end else 'first'} {len(data):,} of {size:,} bytes" if size > len(data) else ""
        return ShownFile(name, data.decode("utf-8", "replace"), part)


def _is_folder(folder: int, name: str) -> bool:
    """Whether ``name`` is a folder now. No decision rests on it: what is opened afterwards is checked itself."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False
