"""Puts a model where the benchmark takes it from: real files, model files only, the whole folder or the one before."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

from astune.errors import ModelError
from astune.files import fsync, storage_errors

#: Weights, configuration, tokenizer. Optimiser states, logs and code stay behind.
MODEL_FILES = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"),
    *("*.jinja", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"),
)
_AT_FDCWD, _EXCHANGE = -100, 2


def is_model(folder: Path) -> bool:
    """Whether the folder holds a configuration and weights."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def publish_model(source: Path, target: Path) -> None:
    """Copies the model in ``source`` to ``target``, which at every instant is the old model or the new one.

    Raises:
        ModelError: ``source`` is no model.
        CheckpointError: the disk is full or read-only; what ``target`` held stays.
    """
    if not is_model(source):
        raise ModelError(f"{source} holds no model: config.json and *.safetensors are needed")
    scratch = target.with_name(f".writing-{target.name}")
    with storage_errors(target):
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir(parents=True)
            for file in sorted({file for pattern in MODEL_FILES for file in source.glob(pattern) if file.is_file()}):
                shutil.copyfile(file, scratch / file.name)
                fsync(scratch / file.name)
            _take_place(scratch, target)
            fsync(target.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _take_place(new: Path, target: Path) -> None:
    """Gives ``new`` the name of ``target``; what was there is at ``new`` afterwards."""
    if not target.exists():
        new.rename(target)
    elif not _exchange(new, target):
        old = target.with_name(f".old-{target.name}")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        new.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two names in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return rename is not None and rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0
