"""What a training script is told by its environment: the contract of ``code/train.py``, in one place."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to train from and to, and until when.

    Attributes:
        base_model, train_data, output, seed: of the contract, with ``ends_at`` on the monotonic clock.
        cache: keeps finished stages, so that a longer chain of stages goes on where a shorter one ended. A replay
            has none of its own and begins at the base model.
        threads: of torch.
        report: file that gets the outcome as JSON; None keeps it on stdout alone.
    """

    base_model: Path
    train_data: Path
    output: Path
    seed: int
    ends_at: float
    cache: Path
    threads: int
    report: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Reads the variables.

        Raises:
            KeyError: one that the contract promises is missing.
        """
        cores = len(os.sched_getaffinity(0))
        report = environment.get("AUTORL_REPORT")
        return cls(
            base_model=Path(environment["AUTORL_BASE_MODEL"]),
            train_data=Path(environment["AUTORL_TRAIN_DATA"]),
            output=Path(environment["AUTORL_OUTPUT"]),
            seed=int(environment["AUTORL_SEED"]),
            ends_at=time.monotonic() + float(environment["AUTORL_SECONDS_LEFT"]),
            cache=Path(environment.get("AUTORL_CACHE") or tempfile.mkdtemp(prefix="stages-")),
            threads=int(environment.get("AUTORL_THREADS") or cores),
            report=None if report is None else Path(report),
        )

    @property
    def seconds_left(self) -> float:
        """Seconds until training has to be over."""
        return self.ends_at - time.monotonic()
