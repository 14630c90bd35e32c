"""LoRA adapters on disk: which model one belongs to, and that model with the adapter merged in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedModel

from astune.errors import ModelError

ADAPTER_FILE = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def base_of_adapter(folder: Path) -> str:
    """The model that the adapter in ``folder`` was trained on: a folder, or a name on the hub.

    Raises:
        ModelError: the adapter does not say, or names a folder that is not there.
    """
    file = folder / ADAPTER_FILE
    try:
        base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    remedy = f"set base_model_name_or_path in {file} to the folder of the model that the adapter was trained on"
    if not isinstance(base, str) or not base:
        raise ModelError(f"the adapter in {folder} does not name its base model: {remedy}")
    if Path(base).is_absolute() and not Path(base).is_dir():
        raise ModelError(f"the adapter in {folder} needs its base model {base}, which is not there: {remedy}")
    if Path(base).resolve() == folder.resolve():
        raise ModelError(f"the adapter in {folder} names itself as its base model: {remedy}")
    return base


def merge_adapter(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Adds the adapter in ``folder`` to the weights of ``base`` (which is used up); every weight can be trained again.

    Raises:
        ModelError: peft is not installed, or the adapter is damaged, of another kind or of another model.
    """
    if not any((folder / name).is_file() for name in ADAPTER_WEIGHTS):
        raise ModelError(f"the adapter in {folder} has no weights; expected one of: {', '.join(ADAPTER_WEIGHTS)}")
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ModelError(
            f"{folder} holds an adapter, which needs the package peft: pip install 'astune[lora]'"
        ) from error
    try:
        adapted: Any = PeftModel.from_pretrained(base, str(folder))
        merged: PreTrainedModel = adapted.merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"the adapter in {folder} does not fit its base model {base.name_or_path}: {reason}"
        ) from error
    # An adapter that is trained on this model must name the two together as its base.
    merged.name_or_path = str(folder.resolve())
    return merged.requires_grad_(True)
