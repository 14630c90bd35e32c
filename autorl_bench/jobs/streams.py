"""What flows between a job and the outside: its output, kept within limits, and its connections, relayed."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from autorl_bench.jobs.types import Endpoint

_CHUNK = 1 << 16
_MAX_CONNECTIONS = 64


class Capture:
    """Reads a pipe into a file: the first half of ``limit`` bytes as they come, at the end the last half.

    What a job prints last says why it failed; what lies between is dropped and its length noted. ``failed`` is called
    when the file cannot be written; nothing is read any more then.
    """

    def __init__(self, pipe: int, path: Path, limit: int, failed: Callable[[OSError], object]) -> None:
        self._pipe, self._room, self._tail_room = pipe, limit - limit // 2, limit // 2
        self._file = path.open("wb", buffering=0)
        self._tail: deque[bytes] = deque()
        self._held = self._dropped = 0
        self._failed, self._broken = failed, False
        os.set_blocking(pipe, False)
        asyncio.get_running_loop().add_reader(pipe, self._read)

    def _read(self) -> bool:
        """Takes one chunk; False when there is none now, or never again."""
        try:
            chunk = os.read(self._pipe, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._pipe)
            return False
        try:
            self._keep(chunk)
        except OSError as error:
            self._broken = True
            asyncio.get_running_loop().remove_reader(self._pipe)
            self._failed(error)
        return not self._broken

    def _keep(self, chunk: bytes) -> None:
        head, rest = chunk[: self._room], chunk[self._room :]
        self._room -= len(head)
        self._write(head)
        self._tail.append(rest)
        self._held += len(rest)
        while self._held > self._tail_room:
            first = self._tail.popleft()
            excess = min(self._held - self._tail_room, len(first))
            self._dropped += excess
            self._held -= excess
            if excess < len(first):
                self._tail.appendleft(first[excess:])

    def close(self) -> None:
        """Takes what is still in the pipe, and writes the end, unless writing has failed before. Raises OSError."""
        try:
            if not self._broken:
                self._finish()
        finally:
            asyncio.get_running_loop().remove_reader(self._pipe)
            self._file.close()
            os.close(self._pipe)

    def _finish(self) -> None:
        while self._read():
            pass
        if self._dropped:
            self._write(f"\n[... {self._dropped} bytes left out ...]\n".encode())
        self._write(b"".join(self._tail))

    def _write(self, data: bytes) -> None:
        """A disk that fills up takes a part first, and refuses the rest."""
        while data:
            data = data[self._file.write(data) :]


class Relay:
    """Accepts on a socket that listens inside the job's network namespace, and connects to one service outside.

    A socket stays in the namespace that it was made in, so that nothing of this runs within the job's reach.
    """

    def __init__(self, listener: socket.socket, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._listener = listener
        self._free = asyncio.Semaphore(_MAX_CONNECTIONS)

    async def serve(self) -> None:
        """Relays until cancelled."""
        server = await asyncio.start_server(self._connect, sock=self._listener)
        async with server:
            await server.serve_forever()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._free:
            try:
                there, back = await asyncio.open_connection(self._endpoint.host, self._endpoint.port)
            except OSError:  # the job sees a connection that closes at once
                writer.close()
                return
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
            for one in (writer, back):
                one.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # one side hung up: the other is told so
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
