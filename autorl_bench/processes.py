"""Names of processes that mean one process for ever, though its id is given to another after it."""

from __future__ import annotations

import socket

from astune.leftovers import birth


def process_name(pid: int) -> str:
    """Host, id, and when it started."""
    return f"{socket.gethostname()}:{pid}:{birth(pid)}"


def has_ended(name: str) -> bool:
    """Whether the process of this name ran on this host and has ended; of other hosts nothing is known."""
    host, pid, born = name.rsplit(":", 2)
    return host == socket.gethostname() and birth(int(pid)) != born
