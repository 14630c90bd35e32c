"""What a forked child does to itself before it runs a line of somebody else's code."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astune.tools import landlock, seccomp

_LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER, _SIGKILL = 2, 9
_CLONE_NEW = {"user": 0x10000000, "pid": 0x20000000, "net": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000}
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_MAX_FILES = 64


@dataclass(frozen=True, slots=True)
class Confinement:
    """What the warm parent prepared for its children.

    ``ruleset`` is None below the kernel level. ``parent`` is a pidfd of the warm parent (None where the
    system has none), ``base_memory`` the bytes of address space that the warm interpreter itself holds.
    """

    ruleset: int | None
    parent: int | None
    base_memory: int


def readable_paths() -> list[str]:
    """The interpreter's library, the installed packages and the system's shared libraries: all code may read."""
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    library = sysconfig.get_config_var("LIBDIR")
    if library and library.startswith(sys.base_prefix) and sys.base_prefix not in ("/", "/usr"):
        paths.append(library)
    paths += ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache"]
    return sorted({os.path.realpath(path) for path in paths})


def prepare(kernel: bool) -> Confinement:
    """Makes the shared parts once, in the warm parent. Raises OSError without Landlock when ``kernel``."""
    ruleset = landlock.make_ruleset(readable_paths(), _DEVICES) if kernel else None
    parent = os.pidfd_open(os.getpid()) if _LINUX else None
    return Confinement(ruleset, parent, _address_space())


def _address_space() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def enter_namespaces() -> list[str]:
    """Moves into own user, PID, network, IPC and UTS namespaces where allowed; returns their names.

    The PID namespace begins with the next fork. The user id stays what it is.
    """
    uid, gid = os.getuid(), os.getgid()
    for names in (("user", "pid", "net", "ipc", "uts"), ("pid", "net", "ipc", "uts")):
        if _libc.unshare(sum(_CLONE_NEW[name] for name in names)) == 0:
            if "user" in names:
                _map_ids(uid, gid)
            return list(names)
    return []


def _map_ids(uid: int, gid: int) -> None:
    maps = {"setgroups": "deny", "uid_map": f"{uid} {uid} 1", "gid_map": f"{gid} {gid} 1"}
    with contextlib.suppress(OSError):  # without a map the ids show as nobody's, and nothing else changes
        for name, text in maps.items():
            Path("/proc/self", name).write_text(text)


def confine(confinement: Confinement) -> None:
    """Confines the calling process for good, or raises OSError: then no code may run."""
    _lower({"RLIMIT_NOFILE": (_MAX_FILES,) * 2, "RLIMIT_CORE": (0, 0)})
    if not _LINUX:
        return
    give_up_privileges()
    die_with_parent(confinement.parent)
    if confinement.ruleset is not None:
        landlock.enter(confinement.ruleset)
        filter_calls(seccomp.build(os.getpid()))


def give_up_privileges() -> None:
    """No capabilities, none from programmes that it runs, and no look into this process for others. Raises OSError."""
    _drop_capabilities()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)


def filter_calls(program: bytes) -> None:
    """Enters a seccomp program, for good; needs no-new-privs. Raises OSError."""
    fprog = seccomp.SockFprog(len(program) // 8, program)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(fprog))


def set_limits(confinement: Confinement, limits: Mapping[str, Any]) -> None:
    """Applies the limits of one call, for good; a confined process may still do so. Raises as ``confine`` does."""
    cpu = max(1, int(-(-limits["cpu_seconds"] // 1)))
    _lower(
        {
            "RLIMIT_CPU": (cpu, cpu + 1),  # SIGXCPU first, SIGKILL for code that ignores it
            "RLIMIT_AS": (confinement.base_memory + limits["memory"],) * 2,
            "RLIMIT_FSIZE": (limits["file_size"],) * 2,
        }
    )


def _lower(wanted: Mapping[str, tuple[int, int]]) -> None:
    for name, value in wanted.items():
        if hasattr(resource, name):
            resource.setrlimit(getattr(resource, name), value)


def _prctl(option: int, value: int, argument: int = 0) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(argument), 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl {option}: {os.strerror(error)}")


def die_with_parent(parent: int | None) -> None:
    """The kernel kills this process when its parent dies; a parent that died already (its pidfd says so) counts."""
    if not _LINUX:
        return
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if parent is not None and select.select([parent], [], [], 0)[0]:
        os._exit(1)


def _drop_capabilities() -> None:
    """Empties all three capability sets (version 3 header, calling thread)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    if _libc.capset(header, data) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"capset: {os.strerror(error)}")
