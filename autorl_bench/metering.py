"""What a tree of processes uses, read from /proc by an observer that the tree cannot touch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_BLOCK = 512  # unit of st_blocks, see stat(2)
_VANISHED = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds and bytes, all processes together. ``disk`` is the growth of the writable folders at its largest.

    ``cpu_seconds`` includes processes that have ended; one that lives and dies between two samples is missed only if
    its parent refused to wait for it. ``peak_memory`` is sampled.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    peak_processes: int = 0
    disk: int = 0


@dataclass(frozen=True, slots=True)
class _Stat:
    """Of /proc/PID/stat: parent, own and waited-for children's seconds of CPU, start time, resident bytes.

    ``thread`` is where a living thread of it is found when its first one, whose end looks like its own, has ended.
    """

    parent: int
    own: float
    children: float
    birth: str
    resident: int
    thread: Path | None


class Meter:
    """Samples the processes that one /proc shows.

    Args:
        proc: A /proc: that of a PID namespace (all its processes are the tree), or the machine's with ``root``.
        root: Count the descendants of this process only.
        folders: Writable folders, whose growth from now on is the disk used.
    """

    def __init__(self, proc: Path, folders: Sequence[Path], root: int | None = None) -> None:
        self._proc, self._root, self._folders = proc, root, folders
        self.started = time.monotonic()
        self._own: dict[tuple[int, str], float] = {}
        self._gone = 0.0
        self._before = held(folders)
        self.usage = Usage()
        self.memory = self.processes = self.disk = 0

    def processes_now(self) -> dict[int, str]:
        """The tree's processes with their births; zombies, which use nothing, are left out."""
        return {pid: stat.birth for pid, stat in self._members().items()}

    def sample(self, memory_limit: int, process_limit: int, disk: bool) -> Usage:
        """Measures now, and returns the totals and peaks so far.

        The resident sizes overstate what forks share, so that beyond ``memory_limit`` they are measured exactly;
        not with more processes than ``process_limit``, where that would take long and decides nothing any more.

        Raises:
            OSError: ``disk`` and a writable folder that cannot be measured (its rights, its depth).
        """
        everyone = self._members()
        # The first process of a namespace is ours: what it holds is no part of the job.
        members = {pid: stat for pid, stat in everyone.items() if self._root is not None or pid != 1}
        self.processes = len(members)
        self.memory = sum(stat.resident for stat in members.values())
        if self.processes > process_limit:
            return self._update(self._cpu(everyone))
        if self.memory > memory_limit:
            self.memory = sum(self._proportional(pid, stat) for pid, stat in members.items())
        if disk:
            self.disk = max(0, held(self._folders) - self._before) + self._deleted(members)
        return self._update(self._cpu(everyone))

    def finish(self, cpu_seconds: float) -> Usage:
        """The totals at the end, with what the kernel counted for all processes that were waited for."""
        with suppress(OSError):  # unmeasurable: the largest that was measured stands
            self.disk = max(0, held(self._folders) - self._before)
        return self._update(cpu_seconds)

    def _update(self, cpu_seconds: float) -> Usage:
        past = self.usage
        self.usage = Usage(
            wall_seconds=time.monotonic() - self.started,
            cpu_seconds=max(past.cpu_seconds, cpu_seconds),
            peak_memory=max(past.peak_memory, self.memory),
            peak_processes=max(past.peak_processes, self.processes),
            disk=max(past.disk, self.disk),
        )
        return self.usage

    def _cpu(self, members: dict[int, _Stat]) -> float:
        """The larger of two counts, each of which misses some of the processes that have ended.

        What the living and the children that they waited for used misses those that nobody waited for; the last sight
        of each process ever seen misses those that were never seen.
        """
        seen = {(pid, stat.birth): stat.own for pid, stat in members.items()}
        self._gone += sum(own for key, own in self._own.items() if key not in seen)
        self._own = seen
        return max(sum(stat.own + stat.children for stat in members.values()), self._gone + sum(seen.values()))

    def _members(self) -> dict[int, _Stat]:
        stats = {pid: stat for pid in self._pids() if (stat := self._stat(pid)) is not None}
        return stats if self._root is None else _descendants(stats, self._root)

    def _pids(self) -> Iterator[int]:
        try:
            names = [path.name for path in self._proc.iterdir()]
        except OSError:  # the namespace is gone
            return
        yield from (int(name) for name in names if name.isdigit())

    def _stat(self, pid: int) -> _Stat | None:
        home, thread = self._proc / str(pid), None
        try:
            state, *numbers = _fields(home)
            resident = int(numbers[20])
            if state in b"ZX":
                if int(numbers[16]) < 2 or (thread := _living_thread(home)) is None:
                    return None
                resident = int(_fields(thread)[21])
        except _VANISHED:
            return None
        own, children = int(numbers[10]) + int(numbers[11]), int(numbers[12]) + int(numbers[13])
        birth = numbers[18].decode()
        return _Stat(int(numbers[0]), own / _TICK, children / _TICK, birth, resident * _PAGE, thread)

    def _proportional(self, pid: int, stat: _Stat) -> int:
        """The resident bytes with each shared page divided among its sharers; all of them where that is not told."""
        if stat.thread is not None:
            return stat.resident
        try:
            lines = (self._proc / str(pid) / "smaps_rollup").read_text().splitlines()
        except _VANISHED:
            return 0
        except OSError:
            return stat.resident
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)

    def _deleted(self, members: Mapping[int, _Stat]) -> int:
        """Bytes of deleted files that are still open: no folder shows them, and they fill the disk all the same."""
        sizes: dict[tuple[int, int], int] = {}
        for pid, stat in members.items():
            try:
                links = list(((stat.thread or self._proc / str(pid)) / "fd").iterdir())
            except OSError:  # ended, or not ours to look into
                continue
            for link in links:
                with suppress(OSError):
                    status = link.stat()
                    if status.st_nlink == 0:
                        sizes[status.st_dev, status.st_ino] = status.st_blocks * _BLOCK
        return sum(sizes.values())


def _fields(home: Path) -> list[bytes]:
    """Of /proc/PID/stat, what follows the name (which is any bytes): the state, the parent, ..."""
    return (home / "stat").read_bytes().rpartition(b")")[2].split()


def _living_thread(home: Path) -> Path | None:
    with suppress(OSError):  # gone altogether
        for thread in (home / "task").iterdir():
            with suppress(*_VANISHED):
                if _fields(thread)[0] not in b"ZX":
                    return thread
    return None


def _descendants(stats: dict[int, _Stat], root: int) -> dict[int, _Stat]:
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(stat.parent, []).append(pid)
    found: dict[int, _Stat] = {}
    waiting = list(children.get(root, ()))
    while waiting:
        pid = waiting.pop()
        found[pid] = stats[pid]
        waiting += children.get(pid, ())
    return found


def held(folders: Sequence[Path]) -> int:
    """Bytes on disk beneath the folders, each file once; holes take no room. Raises OSError for what can't be read."""
    files: dict[tuple[int, int], int] = {}
    for folder in folders:
        _measure(folder, files)
    return sum(files.values())


def _measure(folder: Path, files: dict[tuple[int, int], int]) -> None:
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):  # removed, or replaced, a link included
            continue
        try:
            with os.scandir(opened) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        files[status.st_dev, status.st_ino] = status.st_blocks * _BLOCK
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(folder / entry.name)
        finally:
            os.close(opened)
