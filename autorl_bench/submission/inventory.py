"""What each file name in a model folder stands for: read, left out, or a reason to refuse the folder."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import PurePosixPath

from autorl_bench.submission.reasons import Invalid, SubmissionRefused

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

#: Pickles that trainers write beside a model without being asked. They are never opened, so they need not be refused.
TRAINER_STATE = re.compile(r"training_args\.bin|optimizer\.(bin|pt)|scheduler\.pt|scaler\.pt|rng_state(_\d+)?\.pth")

_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill"}
_CODE = {".py", ".pyc", ".pyd", ".so", ".sh", ".ipynb", ".pyz", ".whl", ".egg", ".js", ".exe", ".dll"}


# A name of a weights file goes into an index, a log and a page.
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")


class Role(Enum):
    """What the grader does with a file."""

    MODEL = "copied"
    IGNORED = "left out: the base model's own file is used, or none is needed"


def role_of(name: str) -> Role:
    """The role of a regular file in the folder.

    The submitted tokenizer, chat template and generation settings are left out, not refused: every
    ``save_pretrained`` writes them. They cannot do anything, because the base model's are used.

    Raises:
        SubmissionRefused: a pickle, code, or an adapter.
    """
    if TRAINER_STATE.fullmatch(name):
        return Role.IGNORED
    shown = printable(name)
    suffix = PurePosixPath(name).suffix.lower()
    if name.startswith("adapter_"):
        raise SubmissionRefused(Invalid.ADAPTER, f"{shown} belongs to an adapter")
    if suffix in _PICKLES or name.endswith(".bin.index.json"):
        raise SubmissionRefused(Invalid.PICKLE, f"{shown} is (or may be) a pickle")
    if suffix in _CODE:
        raise SubmissionRefused(Invalid.CODE, f"{shown} is code")
    weights = name.endswith(".safetensors")
    if weights and not _PLAIN.fullmatch(name):
        raise SubmissionRefused(
            Invalid.BAD_PATH, f"{shown} has characters other than letters, digits, '_', '.' and '-'"
        )
    if weights or name in {CONFIG_FILE, INDEX_FILE}:
        return Role.MODEL
    return Role.IGNORED


def printable(name: str) -> str:
    """A file name that may hold any bytes, as text that can be logged, stored and sent."""
    text = name.encode(errors="backslashreplace").decode()
    return text if text.isprintable() else repr(text)
