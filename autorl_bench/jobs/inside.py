"""The job's side of the fence: from a fork of the keeper to the job's own programme, confining itself on the way.

At the kernel level there are three processes. The stem enters new namespaces and starts the init, the first process of
the new PID namespace; the init gives the job its root, confines itself, starts the job's programme, waits for all that
is orphaned, and ends with the programme. The kernel then ends everything else in the namespace, however it was
detached. Keeper, stem, init: each dies with the one before it.

Messages to the keeper are JSON over a socket: ``ready`` (with descriptors), ``error``, ``status``.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from astune.tools import confine, landlock, seccomp
from autorl_bench.jobs import root
from autorl_bench.jobs.types import JobLimits

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
#: A namespace's process ids are bounded above by this plus so many tasks (threads count) for each allowed process.
_RESERVED_TASKS, _TASKS_A_PROCESS = 301, 16
_MAX_FILES = 65536
#: The keeper must get a processor even when the job's processes want all of them.
_NICER = 5
_PR_SET_DUMPABLE = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What the child needs to know; all paths resolved. ``scratch`` is an empty folder for the new root."""

    command: tuple[str, ...]
    environment: dict[str, str]
    workspace: str
    view: root.View
    scratch: str
    ports: tuple[int, ...]
    limits: JobLimits
    kernel: bool


def start(plan: Plan, control: socket.socket, keeper: int, stdout: int, stderr: int) -> NoReturn:
    """In a fork of the keeper (``keeper`` is its pidfd): becomes the job, or tells the keeper why not."""
    try:
        confine.die_with_parent(keeper)
        os.setsid()
        os.nice(_NICER)
        _streams(stdout, stderr)
        if plan.kernel:
            _stem(plan, control)
        else:
            _limit(plan.limits)
            confine.give_up_privileges()
            _await_go(control, [])
            _execute(plan)
    except BaseException as error:  # no code may run half confined
        _tell(control, error=f"{type(error).__name__}: {error}")
    os._exit(1)


def _stem(plan: Plan, control: socket.socket) -> None:
    if "pid" not in confine.enter_namespaces():
        raise OSError("no new PID namespace")
    stem = os.pidfd_open(os.getpid())
    init = os.fork()
    if init == 0:
        try:
            confine.die_with_parent(stem)
            os.close(stem)
            _init(plan, control)
        except BaseException as error:  # as above
            _tell(control, error=f"{type(error).__name__}: {error}")
        os._exit(1)
    control.close()
    for fd in (0, 1, 2):
        os.close(fd)  # or the streams would stay open for as long as the stem
    os.waitpid(init, 0)
    os._exit(0)


def _init(plan: Plan, control: socket.socket) -> None:
    listeners = _network(plan.ports)
    root.enter(plan.view, Path(plan.scratch))
    tasks = _RESERVED_TASKS + _TASKS_A_PROCESS * plan.limits.processes
    with suppress(OSError):  # not every kernel has one for each namespace; the keeper counts, too
        Path("/proc/sys/kernel/pid_max").write_text(str(tasks))
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    _limit(plan.limits)
    confine.give_up_privileges()
    writable = (*plan.view.writable, "/tmp", "/dev/shm")  # noqa: S108  the job's own
    readable = (*root.SYSTEM, *root.OWN_FILES, *plan.view.readable, "/proc")
    # Names may be seen everywhere: this root has only what the job may see, and an import looks for its packages.
    rules = landlock.make_ruleset(readable, root.DEVICES, listable=("/",), writable=writable, execute=True, tcp=True)
    landlock.enter(rules)
    confine.filter_calls(seccomp.build_for_job())
    _shut()
    _await_go(control, [proc, *(listener.fileno() for listener in listeners)])
    os.close(proc)
    for listener in listeners:
        listener.close()
    programme = os.fork()
    if programme == 0:
        try:
            os.setsid()
            _execute(plan)
        except OSError as error:
            os.write(2, f"{plan.command[0]}: {error.strerror}\n".encode())
        os._exit(127)
    _wait_for(programme, control)


def _shut() -> None:
    """Closes this process's memory and descriptors to the job: one of them leads to the keeper. Lasts until an exec."""
    if ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError("the first process cannot be closed to others")


def _wait_for(programme: int, control: socket.socket) -> NoReturn:
    """Waits for every orphan, as a first process must, until the programme itself has ended."""
    for fd in (1, 2):
        os.close(fd)
    while True:
        pid, status = os.wait()
        if pid == programme:
            _tell(control, status=os.waitstatus_to_exitcode(status))
            os._exit(0)


def _network(ports: tuple[int, ...]) -> list[socket.socket]:
    """Turns on the namespace's loopback and listens there; the keeper accepts, and connects outside."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
    return [socket.create_server(("127.0.0.1", port), backlog=128) for port in ports]


def _streams(stdout: int, stderr: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, stream in enumerate((null, stdout, stderr)):
        os.dup2(stream, fd)


def _limit(limits: JobLimits) -> None:
    """Limits of each process; those of all together are the keeper's to watch."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    cpu = max(1, int(limits.cpu_seconds) + 1)
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: files,
        resource.RLIMIT_CPU: cpu,
        resource.RLIMIT_FSIZE: limits.disk,
        resource.RLIMIT_DATA: limits.memory,
    }
    for name, value in wanted.items():
        before = resource.getrlimit(name)[1]
        resource.setrlimit(name, (value, value) if before == resource.RLIM_INFINITY else (min(value, before),) * 2)
    with suppress(OSError):  # where memory runs out all the same, the job goes first
        Path("/proc/self/oom_score_adj").write_text("1000")


def _await_go(control: socket.socket, descriptors: list[int]) -> None:
    socket.send_fds(control, [json.dumps({"ready": True}).encode()], descriptors)
    if control.recv(16) != b"go":
        raise OSError("the keeper is gone")


def _execute(plan: Plan) -> None:
    os.closerange(3, 1 << 16)
    os.chdir(plan.workspace)
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.execvpe(plan.command[0], list(plan.command), plan.environment)  # noqa: S606  somebody else's code, confined


def _tell(control: socket.socket, **message: object) -> None:
    with suppress(OSError):  # nobody listens any more
        control.send(json.dumps(message).encode())
