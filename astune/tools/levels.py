"""Which level of confinement a machine offers, found by trying it in a child that then attempts to get out."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from astune.tools import confine, landlock, seccomp
from astune.tools.types import SandboxLevel, SandboxProbe

_ALLOWANCE = {"cpu_seconds": 5.0, "memory": 64 * 2**20, "file_size": 0}


def _attempts(outside: int) -> dict[str, Callable[[], object]]:
    return {
        "read outside": lambda: list(Path("/").iterdir()),
        "socket": lambda: socket.socket(),
        "fork": lambda: os.fork() or os._exit(0),
        "signal": lambda: os.kill(outside, 0),
        "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
    }


def _inspect(confinement: confine.Confinement) -> str:
    """In a child: confines it and tries each way out. Empty when every attempt was refused."""
    outside = os.getppid()
    try:
        confine.confine(confinement)
        confine.set_limits(confinement, _ALLOWANCE)
    except OSError as error:
        return f"confinement failed: {error}"
    for name, attempt in _attempts(outside).items():
        try:
            attempt()
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES):
                return f"{name}: unexpected {error}"
        else:
            return f"{name} was not stopped"
    return ""


def _in_child(confinement: confine.Confinement) -> str:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write_end, _inspect(confinement).encode() or b"ok")
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8", errors="replace") as stream:
        answer = stream.read()
    os.waitpid(pid, 0)
    return "" if answer == "ok" else answer or "the probing child died"


def probe(namespaces: list[str], at_most: SandboxLevel) -> tuple[SandboxProbe, confine.Confinement]:
    """The level of this process's children, and what they need for it. Forks: call it with one thread only."""
    reason = ""
    if at_most == SandboxLevel.PROCESS:
        reason = "kernel confinement was not asked for"
    elif sys.platform != "linux":
        reason = "no Landlock or seccomp outside Linux"
    elif not seccomp.supported():
        reason = "no system call table for this machine"
    else:
        try:
            confinement = confine.prepare(kernel=True)
        except OSError as error:
            reason = f"no Landlock: {error}"
        else:
            reason = _in_child(confinement)
            if not reason:
                features = (f"landlock-{landlock.abi_version()}", "seccomp", "rlimits", *namespaces)
                return SandboxProbe(SandboxLevel.KERNEL, features, "every attempted escape was refused"), confinement
    features = ("rlimits", *namespaces)
    return SandboxProbe(SandboxLevel.PROCESS, features, reason), confine.prepare(kernel=False)
