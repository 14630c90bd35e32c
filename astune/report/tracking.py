"""Metrics to an experiment tracker, beside the run folder. TensorBoard, when it is installed and asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from astune.errors import ConfigError


class Tracker(Protocol):
    """Somewhere that metrics go, step by step."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of one training step."""
        ...

    def close(self) -> None:
        """Flushes and lets go."""
        ...


class TensorBoardTracker:
    """Writes scalars that ``tensorboard --logdir FOLDER`` shows.

    ``start_step`` is the step that a resumed run goes on from: later points of the killed run are hidden.

    Raises:
        ConfigError: the package tensorboard is not installed.
    """

    def __init__(self, folder: Path, start_step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "tracking.tensorboard: true needs the package tensorboard; install the extra with "
                "pip install 'astune[track]', or set tracking.tensorboard=false"
            ) from error
        purge_step = start_step + 1 if start_step else None
        self._writer = SummaryWriter(log_dir=str(folder), purge_step=purge_step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes one scalar a metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes the event file."""
        self._writer.close()
