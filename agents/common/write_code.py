"""Writes ``code/``: a ``train.py`` that says what is trained, and beside it the package that trains it."""

from __future__ import annotations

import pprint
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from astune.files import atomic_write

SCRIPT = "train.py"
_PACKAGE = Path(__file__).with_name("training")

_TEMPLATE = '''"""{title}

Trains from AUTORL_BASE_MODEL on AUTORL_TRAIN_DATA and writes the model to AUTORL_OUTPUT.
"""

from training.stages import run_stages

STAGES = {stages}

if __name__ == "__main__":
    run_stages(STAGES)
'''


def write_code(folder: Path, title: str, stages: Sequence[Mapping[str, Any]]) -> Path:
    """Writes the script of a chain of stages; everything that it needs beyond the packages is in ``folder``.

    Returns:
        The script.

    Raises:
        CheckpointError: the disk is full or read-only.
    """
    for module in sorted(_PACKAGE.glob("*.py")):
        target = folder / _PACKAGE.name / module.name
        if not target.is_file() or target.read_bytes() != module.read_bytes():
            atomic_write(target, module.read_bytes())
    shown = pprint.pformat([dict(stage) for stage in stages], width=100, sort_dicts=False)
    words = " ".join(title.split()).replace("\\", "/").replace('"""', "'''")
    atomic_write(folder / SCRIPT, _TEMPLATE.format(title=words, stages=shown))
    return folder / SCRIPT


def copy_code(source: Path, target: Path) -> None:
    """Makes ``target`` hold the code of ``source`` and nothing else."""
    scratch = target.with_name(f".writing-{target.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(source, scratch, ignore=shutil.ignore_patterns("__pycache__"))
    old = target.with_name(f".old-{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    scratch.rename(target)
    shutil.rmtree(old, ignore_errors=True)
