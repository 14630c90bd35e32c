"""Records that outlive a kill: one JSON object a line, on the disk when ``append`` returns."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from astune.files import storage_errors


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Adds one row; a half-written row of a killed process before it is closed off first.

    Raises:
        CheckpointError: the disk is full or read-only.
    """
    line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as stream:
            if stream.seek(0, os.SEEK_END) > 0:
                stream.seek(-1, os.SEEK_END)
                line = line if stream.read(1) == b"\n" else f"\n{line}"
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())


def read(path: Path) -> list[dict[str, Any]]:
    """All whole rows; a line that a kill cut off is left out."""
    rows = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
