"""A root of its own for a job: in a fresh mount namespace only what was listed exists, at its own path."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from dataclasses import dataclass
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_NEWNS = 0x00020000
_NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _PRIVATE = 0x2, 0x4, 0x8, 0x1000, 0x4000, 1 << 18
_DETACH = 2
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _ATTR_RDONLY, _ATTR_NOSUID = 442, -100, 0x8000, 0x1, 0x2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
#: Programmes and libraries of the system, and the little of /etc that they read.
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl", "/etc/ca-certificates", "/etc/localtime"),
)
#: Files of /etc that the job gets in place of the machine's.
OWN_FILES = {
    "/etc/passwd": "job:x:{uid}:{gid}::/tmp:/bin/sh\n",
    "/etc/group": "job:x:{gid}:\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


@dataclass(frozen=True, slots=True)
class View:
    """What a job sees: ``temporary`` becomes its /tmp, ``shared_memory`` is the size of its /dev/shm in bytes."""

    readable: tuple[str, ...]
    writable: tuple[str, ...]
    temporary: str
    shared_memory: int


def enter(view: View, scratch: Path) -> None:
    """Makes ``view`` the calling process's root, and the way back disappear. Raises OSError.

    Needs the mount capability (a user namespace gives it) and a PID namespace whose processes /proc is to show.
    ``scratch`` is an empty folder; nothing is written to it.
    """
    _check(_libc.unshare(_NEWNS), "mount namespace")
    _mount(None, "/", None, _REC | _PRIVATE)
    _mount("tmpfs", str(scratch), "tmpfs", _NOSUID | _NODEV, "mode=755,size=1m")
    _bind(view.temporary, _place(scratch, "/tmp"), writable=True)  # noqa: S108  first: other paths may lie beneath
    for path in sorted({*SYSTEM, *view.readable}, key=_depth):
        _show(path, scratch, writable=False)
    for path in sorted(view.writable, key=_depth):
        _show(path, scratch, writable=True)
    for path in DEVICES:
        _show(path, scratch, writable=True)
    _mount("tmpfs", _folder(scratch, "/dev/shm"), "tmpfs", _NOSUID | _NODEV, f"size={view.shared_memory}")  # noqa: S108
    _mount("proc", _folder(scratch, "/proc"), "proc", _NOSUID | _NODEV | _NOEXEC)
    _write_own_files(scratch)
    _change_root(scratch)


def _depth(path: str) -> int:
    return len(Path(path).parts)


def _show(path: str, root: Path, *, writable: bool) -> None:
    """Puts ``path`` at its place beneath ``root``: a link as a link, anything else as a bind mount."""
    source = Path(path)
    if source.is_symlink():
        link = _place(root, path)
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source.readlink())
    elif source.exists():
        _bind(path, _place(root, path), writable=writable)


def _place(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _folder(root: Path, path: str) -> str:
    place = _place(root, path)
    place.mkdir(parents=True, exist_ok=True)
    return str(place)


def _bind(source: str, place: Path, *, writable: bool) -> None:
    if not place.exists():
        if Path(source).is_dir():
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    _mount(source, str(place), None, _BIND | _REC)
    attributes = _ATTR_NOSUID | (0 if writable else _ATTR_RDONLY)
    packed = struct.pack("QQQQ", attributes, 0, 0, 0)
    result = _libc.syscall(
        _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(place), _AT_RECURSIVE, packed, ctypes.c_size_t(len(packed))
    )
    _check(result, f"read-only {source}")


def _write_own_files(root: Path) -> None:
    for path, text in OWN_FILES.items():
        place = _place(root, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.write_text(text.format(uid=os.getuid(), gid=os.getgid()))


def _change_root(root: Path) -> None:
    """The old root is stacked over the new one by ``pivot_root(".", ".")``, and then taken away; see pivot_root(2)."""
    os.chdir(root)
    _check(_libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _DETACH), "leaving the old root")
    os.chdir("/")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    result = _libc.mount(*encoded, ctypes.c_ulong(flags), options.encode() or None)
    _check(result, f"mounting {source or target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
