"""Names of hosts inside a job, where there is no name service: a declared service listens at 127.0.0.1, on its port."""

from __future__ import annotations

import socket
from collections.abc import Collection
from typing import Any


def reach_by_loopback(hosts: Collection[str]) -> None:
    """From now on, those of ``hosts`` that have no address here are looked for at 127.0.0.1.

    The name itself stays what certificates are checked against.
    """
    ask: Any = socket.getaddrinfo

    def lookup(host: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return ask(host, *arguments, **options)
        except socket.gaierror:
            if host not in hosts:
                raise
            return ask("127.0.0.1", *arguments, **options)

    socket.getaddrinfo = lookup
