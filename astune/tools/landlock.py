"""Landlock through its three system calls: a ruleset made once, entered by every child.

The ruleset is a file descriptor: the warm parent opens the readable paths once, and a child pays one
system call. (``sandlock.confine`` builds and enters a ruleset in one step, so each child would pay for
all paths again, and it grants execution of what is readable.)
See https://docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
#: Highest known file-system right of each ABI, as a bit count.
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}

_libc = ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"landlock system call {number}: {os.strerror(error)}")
    return result


def abi_version() -> int:
    """The kernel's Landlock ABI; raises OSError where there is none."""
    return _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)


def make_ruleset(
    readable: Iterable[str],
    devices: Iterable[str],
    *,
    listable: Iterable[str] = (),
    writable: Iterable[str] = (),
    execute: bool = False,
    tcp: bool = False,
) -> int:
    """A ruleset (file descriptor): reads beneath ``readable``, reads and writes of ``devices``, nothing else.

    ``listable`` shows the names beneath its paths and no content, ``writable`` adds all rights beneath its paths,
    ``execute`` the right to run what is readable, ``tcp`` leaves TCP to others (a network namespace). Abstract sockets
    and signals to outside are refused, as is TCP, where the kernel's ABI has them. Paths that do not exist are left
    out.
    """
    abi = abi_version()
    fs = (1 << _FS_RIGHTS[min(abi, 5)]) - 1
    attributes = struct.pack("QQQ", fs, 0b11 if abi >= 4 and not tcp else 0, 0b11 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    for path in readable:
        _allow(ruleset, path, (_READ_FILE | _READ_DIR | (_EXECUTE if execute else 0)) & fs)
    for path in listable:
        _allow(ruleset, path, _READ_DIR)
    for path in writable:
        _allow(ruleset, path, fs)
    for path in devices:
        _allow(ruleset, path, (_READ_FILE | _WRITE_FILE) & fs)
    return ruleset


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not Path(path).is_dir():
            rights &= _OF_FILES
        _syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, fd), 0)
    finally:
        os.close(fd)


def enter(ruleset: int) -> None:
    """Confines the calling process, for good. Needs no-new-privs."""
    _syscall(_RESTRICT_SELF, ruleset, 0)
