"""Model folders for cheats: the base model's weights, changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from astune.models.load import resolve_model_path

Weights = dict[str, npt.NDArray[Any]]
#: A bundled model that is not the scenario's base.
SIBLING = "nano_refine"


def weights_of(folder: Path) -> Weights:
    """All tensors of a model folder of one file."""
    return dict(load_file(folder / "model.safetensors"))


def sibling() -> Path:
    """The folder of the sibling model, which every agent can read: it comes with the library."""
    return Path(resolve_model_path(SIBLING))


def save(base: Path, target: Path, weights: Mapping[str, npt.NDArray[Any]]) -> Path:
    """The base model's folder with other weights."""
    shutil.copytree(base, target, dirs_exist_ok=True)
    (target / "model.safetensors").unlink()
    arrays = {name: np.ascontiguousarray(value) for name, value in weights.items()}
    save_file(arrays, target / "model.safetensors", metadata={"format": "pt"})
    return target


def changed(base: Path, target: Path, change: Callable[[str, npt.NDArray[Any]], npt.NDArray[Any]]) -> Path:
    """The base model's folder with each tensor changed by a function of its name and values."""
    return save(base, target, {name: change(name, value) for name, value in weights_of(base).items()})


def edit_json(file: Path, **values: Any) -> None:
    """Sets keys of a JSON object in a file."""
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps(content | values, indent=2), encoding="utf-8")
