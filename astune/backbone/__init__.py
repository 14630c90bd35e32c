"""Where a run runs: one small module a backbone, looked up by name.

``run`` and ``evaluate`` are what the command calls; both return an exit status. ``run_folder`` says where.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from astune.config.schema import AstuneConfig
from astune.errors import ConfigError

#: Backbone to the module that has its ``run(config, config_text)``.
BACKBONES = {"local": "astune.backbone.local", "debug": "astune.backbone.debug"}


def run(config: AstuneConfig, backbone: str, config_text: str) -> int:
    """Runs ``config`` on the named backbone.

    Args:
        config: the whole configuration.
        backbone: a key of :data:`BACKBONES`.
        config_text: the configuration as resolved, kept in the run folder.

    Raises:
        ConfigError: there is no such backbone.
    """
    if backbone not in BACKBONES:
        raise ConfigError(f"unknown backbone {backbone!r}: use {' or '.join(BACKBONES)}")
    status: int = importlib.import_module(BACKBONES[backbone]).run(config, config_text)
    return status


def run_folder(config: AstuneConfig, backbone: str) -> Path:
    """Where the named backbone writes: debugging leaves the folder of a training run of that name alone."""
    return config.run_folder.with_name(f"{config.name}-debug") if backbone == "debug" else config.run_folder


def evaluate(config: AstuneConfig, checkpoint: Path, tasks: Path | None) -> int:
    """Scores the model in ``checkpoint`` on the held-out tasks of ``config``, or on a task file."""
    from astune.backbone.evaluation import evaluate_checkpoint

    return evaluate_checkpoint(config, checkpoint, tasks)
