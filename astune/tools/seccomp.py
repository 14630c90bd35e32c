"""The system call filter of sandboxed code: an allow list, as a classic BPF program.

Refused calls fail with EPERM, so that Python code sees an ordinary ``PermissionError``. No new
process, no socket, no ``execve``, no ``ptrace``, no signal to anybody but oneself; threads may start.
``sandlock.confine`` (0.9) covers Landlock only, and its supervised mode costs a fresh process and a
notification thread a call, so the filter is built here: one pass over (number, first two arguments).
"""

from __future__ import annotations

import ctypes
import platform
import struct

from astune.tools.syscalls import AARCH64, JOB_AARCH64, JOB_X86_64, X86_64

ERRNO_EPERM = 0x00050000 | 1
ERRNO_ENOSYS = 0x00050000 | 38
ALLOW = 0x7FFF0000
KILL = 0x80000000

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_TABLES = {"x86_64": X86_64, "aarch64": AARCH64}
_JOB_TABLES = {"x86_64": JOB_X86_64, "aarch64": JOB_AARCH64}
_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARG0, _ARG0_HIGH, _ARG1 = 0, 4, 16, 20, 24
_CLONE_THREAD, _CLONE_NEWUSER = 0x00010000, 0x10000000
#: Unix, IPv4, IPv6, netlink. Not AF_VSOCK: it reaches the host of a virtual machine, past network namespaces.
_JOB_SOCKETS = (1, 2, 10, 16)
#: isatty, window size, close-on-exec, non-blocking, bytes waiting. Nothing that types into a terminal.
_IOCTLS = (0x5401, 0x5413, 0x5450, 0x5451, 0x5421, 0x541B)
#: Duplicate, flags, record locks, pipe size. Not F_SETOWN: it sends signals to other processes.
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032)
#: PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME.
_PRCTLS = (3, 15, 16)


class SockFprog(ctypes.Structure):
    """``struct sock_fprog``: a BPF program as prctl and seccomp take it."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _instruction(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, k)


def _argument_rule(number: int, offset: int, values: tuple[int, ...]) -> bytes:
    """Call ``number`` is allowed when the 32 low bits of the argument at ``offset`` are one of ``values``."""
    body = _instruction(_LOAD, offset)
    body += b"".join(_instruction(_JEQ, value, len(values) - i) for i, value in enumerate(values))
    body += _instruction(_RET, ERRNO_EPERM) + _instruction(_RET, ALLOW)
    return _instruction(_JEQ, number, 0, len(body) // 8) + body


def _clone_rule(number: int, flag: int, if_set: int, otherwise: int) -> bytes:
    body = _instruction(_LOAD, _ARG0) + _instruction(_JSET, flag, 0, 1)
    body += _instruction(_RET, if_set) + _instruction(_RET, otherwise)
    return _instruction(_JEQ, number, 0, len(body) // 8) + body


def supported() -> bool:
    """Whether this machine has a table of system calls."""
    return platform.machine() in _TABLES


def _reload() -> bytes:
    return _instruction(_LOAD, _NUMBER)


def _own_architecture() -> bytes:
    """Kills calls of another architecture, whose numbers mean something else; leaves the number loaded."""
    machine = platform.machine()
    program = _instruction(_LOAD, _ARCH) + _instruction(_JEQ, _AUDIT_ARCH[machine], 1) + _instruction(_RET, KILL)
    program += _reload()
    if machine == "x86_64":  # the x32 calls share the architecture and have other numbers
        program += _instruction(_JGE, 0x40000000, 0, 1) + _instruction(_RET, KILL)
    return program


def build_for_job() -> bytes:
    """The program for a whole job, many processes of any kind: all calls but those that widen its world.

    Refused: mounts, new namespaces (a user namespace hands out capabilities), kernel modules and programs, keys,
    io_uring (it passes by this filter), sockets other than Unix, IP and netlink.
    """
    table = dict(_JOB_TABLES[platform.machine()])
    special = _argument_rule(table.pop("socket"), _ARG0, _JOB_SOCKETS)
    special += _clone_rule(table.pop("clone"), _CLONE_NEWUSER, ERRNO_EPERM, ALLOW)
    special += _instruction(_JEQ, table.pop("clone3"), 0, 1) + _instruction(_RET, ERRNO_ENOSYS)  # as in ``build``
    refused = b"".join(_instruction(_JEQ, n, 0, 1) + _instruction(_RET, ERRNO_EPERM) for n in table.values())
    return _own_architecture() + special + refused + _instruction(_RET, ALLOW)


def build(pid: int) -> bytes:
    """The program for a process that sees itself as ``pid`` (in its own PID namespace)."""
    table = dict(_TABLES[platform.machine()])
    program = _own_architecture()
    special = _argument_rule(table.pop("ioctl"), _ARG1, _IOCTLS)
    special += _argument_rule(table.pop("fcntl"), _ARG1, _FCNTLS)
    special += _argument_rule(table.pop("prctl"), _ARG0, _PRCTLS)
    special += _argument_rule(table.pop("prlimit64"), _ARG0, (0,))
    special += _argument_rule(table.pop("kill"), _ARG0, (pid,))
    special += _argument_rule(table.pop("tgkill"), _ARG0, (pid,))
    special += _clone_rule(table.pop("clone"), _CLONE_THREAD, ALLOW, ERRNO_EPERM)
    # clone3 hides its flags behind a pointer; glibc falls back to clone.
    special += _instruction(_JEQ, table.pop("clone3"), 0, 1) + _instruction(_RET, ERRNO_ENOSYS)
    plain = b"".join(_instruction(_JEQ, number, 0, 1) + _instruction(_RET, ALLOW) for number in table.values())
    return program + plain + special + _instruction(_RET, ERRNO_EPERM)
