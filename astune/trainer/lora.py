"""Low-rank adapters (Hu et al., 2021, arXiv:2106.09685) through peft."""

from __future__ import annotations

from typing import Any

from astune.config.schema import Lora
from astune.errors import ConfigError


def add_lora(model: Any, settings: Lora) -> Any:
    """Freezes ``model`` and returns it with trainable adapters.

    Raises:
        ConfigError: peft is not installed, or finds no layer to adapt.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ConfigError(
            "model.lora.enabled: true needs the package peft; install the extra with pip install 'astune[lora]'"
        ) from error
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(f"model.lora.target_modules: {error}") from error
