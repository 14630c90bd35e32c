"""Which files of a submission say something else than the base model's, in whose place they cannot come.

A chat template can be an answer table, generation settings change decoding, a tokenizer can hold answers as tokens. The
base model's are used whatever is submitted; that somebody tried is told.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autorl_bench.submission.findings import Finding, FlagCode
from autorl_bench.submission.paths import open_regular
from autorl_bench.submission.reasons import SubmissionRefused

#: Files that decide how a model is asked; the last holds a chat template only in some versions.
_DECIDING = ("chat_template.jinja", "chat_template.json", "generation_config.json", "tokenizer.json")
_TOKENIZER = "tokenizer_config.json"
_MAX_BYTES = 64 * 2**20
#: What wrote a file says nothing of what it does.
_IDLE_KEYS = ("transformers_version", "_from_model_config")


def replaced_files(folder: int, names: Iterable[str], base: Path) -> tuple[str, ...]:
    """Of the files that are left out, those that differ from the base model's in more than form.

    Args:
        folder: a descriptor of the submitted folder.
        names: what lies in it and is left out.
        base: the base model's folder.
    """
    return tuple(name for name in sorted(names) if name in (*_DECIDING, _TOKENIZER) and _differs(folder, name, base))


def finding(names: tuple[str, ...]) -> Finding | None:
    """The notice that some were replaced."""
    if not names:
        return None
    message = f"{', '.join(names)} differ from the base model's and were left out: the base model's are used."
    return Finding(FlagCode.REPLACED_FILES, message, {"files": len(names)})


def _differs(folder: int, name: str, base: Path) -> bool:
    ours = base / name
    try:
        with open_regular(folder, name) as file:
            if os.fstat(file).st_size > _MAX_BYTES:
                return True
            with os.fdopen(os.dup(file), "rb") as opened:
                theirs = opened.read(_MAX_BYTES)
        expected = ours.read_bytes() if ours.is_file() else b"{}"
        return theirs != expected and _meaning(name, theirs) != _meaning(name, expected)
    except (SubmissionRefused, OSError, ValueError, RecursionError):
        return True  # whatever it is, it is not the base model's


def _meaning(name: str, data: bytes) -> Any:
    if not name.endswith(".json"):
        return data
    content = json.loads(data)
    if name == _TOKENIZER:
        return content.get("chat_template") if isinstance(content, dict) else content
    if not isinstance(content, dict):
        return content
    return {key: value for key, value in content.items() if key not in _IDLE_KEYS}
