"""Messages between client and warm parent: four bytes of length (big-endian), then JSON."""

from __future__ import annotations

import json
import struct
from typing import Any

_HEADER = struct.Struct(">I")


def encode(message: dict[str, Any]) -> bytes:
    """One message as bytes. ASCII only, so that lone surrogates in code survive."""
    body = json.dumps(message).encode("ascii")
    return _HEADER.pack(len(body)) + body


class Decoder:
    """Cuts a byte stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that ``data`` completes, in order."""
        self._buffer += data
        messages: list[dict[str, Any]] = []
        while len(self._buffer) >= _HEADER.size:
            end = _HEADER.size + _HEADER.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                break
            messages.append(json.loads(self._buffer[_HEADER.size : end]))
            del self._buffer[:end]
        return messages
