"""The first process of a job's container: relays its connections, ends it in time, waits for what it leaves behind.

    python -I first.py --seconds 600 --sockets /run/autorl --port 8321 -- COMMAND [ARGUMENT ...]

A container has no network. For each port, this listens at 127.0.0.1 and connects to the socket ``SOCKETS/PORT``, behind
which the benchmark connects to the one service that the job may reach. When this process ends, the kernel ends all that
is in the container, and nothing in it can signal or trace its first process: the deadline holds though whoever started
the container is gone.

Exit status: the command's, 128 + N where signal N ended it, 124 at the deadline, 127 where it cannot be started.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

DEADLINE, NOT_STARTED = 124, 127
_CHUNK = 1 << 16
_MAX_CONNECTIONS = 64
_PR_SET_DUMPABLE = 4


def pump(source: socket.socket, target: socket.socket) -> None:
    """Carries bytes one way until their end, and says that it was the end."""
    with suppress(OSError):  # one side hung up
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def carry(here: socket.socket, path: Path, free: threading.Semaphore) -> None:
    """Carries one connection both ways; closes it at once where nobody is behind the socket."""
    with free, here, socket.socket(socket.AF_UNIX) as there:
        try:
            there.connect(str(path))
        except OSError:
            return
        back = threading.Thread(target=pump, args=(there, here), daemon=True)
        back.start()
        pump(here, there)
        back.join()


def relay(listener: socket.socket, path: Path) -> None:
    """Carries each connection to the socket at ``path``, for ever."""
    free = threading.Semaphore(_MAX_CONNECTIONS)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=carry, args=(connection, path, free), daemon=True).start()


def start(command: list[str]) -> int:
    """Starts the command as a session of its own; its process id."""
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        try:
            os.execvp(command[0], command)  # noqa: S606  somebody else's code, in its container
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(NOT_STARTED)
    return child


def wait_for(child: int, seconds: float) -> int:
    """Waits for every orphan, as a first process must, until the command has ended or its time is over."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if pid == 0:
            signal.sigtimedwait({signal.SIGCHLD}, min(left, 1.0))
    return DEADLINE


def main() -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(description="The first process of a job's container.")
    parser.add_argument("--seconds", type=float, required=True, help="the container ends after so long")
    parser.add_argument("--sockets", type=Path, default=Path("/run/autorl"), help="folder of the sockets, by port")
    parser.add_argument("--port", type=int, action="append", default=[], help="may be given several times")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # the job has this user's rights, and may not look in here
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # it is waited for
    listeners = {port: socket.create_server(("127.0.0.1", port), backlog=128) for port in options.port}
    child = start(options.command)
    for port, listener in listeners.items():
        threading.Thread(target=relay, args=(listener, options.sockets / str(port)), daemon=True).start()
    return wait_for(child, options.seconds)


if __name__ == "__main__":
    os._exit(main())  # connections still open do not keep it
