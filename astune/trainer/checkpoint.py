"""Checkpoints: a folder a step, written whole or not at all, from which a run continues bit for bit.

A checkpoint is an ordinary transformers model folder (``AutoModelForCausalLM.from_pretrained`` reads
it) with two files beside the weights: ``optimizer.pt`` and ``trainer_state.json``. Random states are
not in it, on purpose: every random stream of a run is derived from the run's seed and the step.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from astune.errors import CheckpointError
from astune.files import atomic_folder

STATE_FILE = "trainer_state.json"
OPTIMIZER_FILE = "optimizer.pt"
FORMAT_VERSION = 1


@dataclass(slots=True)
class TrainerState:
    """Everything of a run that is neither weights nor optimiser moments.

    ``step`` counts finished optimiser steps; ``fingerprint`` names what must not change between a
    run and its continuation (seed, data, algorithm); times are in seconds over all sittings.
    """

    step: int = 0
    best_step: int | None = None
    best_score: float | None = None
    train_seconds: float = 0.0
    fingerprint: dict[str, Any] = field(default_factory=dict)
    version: int = FORMAT_VERSION


class CheckpointStore:
    """The ``checkpoints/`` folder of one run: at any time it holds the last checkpoint and the best one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, step: int) -> Path:
        """Folder of the checkpoint after ``step`` optimiser steps."""
        return self.folder / f"step_{step:06d}"

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are whole, in rising order."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.glob("step_*") if (path / STATE_FILE).is_file()]
        return sorted(int(path.name.removeprefix("step_")) for path in found)

    def latest(self) -> int | None:
        """Step of the newest checkpoint, or None for a new run."""
        steps = self.steps()
        return steps[-1] if steps else None

    def save(
        self,
        state: TrainerState,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        optimizer: torch.optim.Optimizer,
    ) -> Path:
        """Writes one checkpoint atomically, then drops those that are neither last nor best.

        Raises:
            CheckpointError: the folder cannot be written; earlier checkpoints are untouched.
        """
        target = self.path(state.step)
        if state.step in self.steps():
            return target  # a step has one outcome: the seed decides it
        try:
            with atomic_folder(target) as scratch:
                model.save_pretrained(scratch)
                tokenizer.save_pretrained(scratch)
                torch.save(optimizer.state_dict(), scratch / OPTIMIZER_FILE)
                (scratch / STATE_FILE).write_text(json.dumps(asdict(state), indent=2))
            self._prune(keep={state.step, state.best_step})
        except (OSError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"could not save checkpoint {target}: {error}. Earlier checkpoints are whole; free some space or make "
                "the folder writable, then start the same command again to continue."
            ) from error
        return target

    def load_state(self, step: int) -> TrainerState:
        """Reads the trainer state of the checkpoint at ``step``."""
        path = self.path(step) / STATE_FILE
        try:
            raw = json.loads(path.read_text())
            if raw.get("version") != FORMAT_VERSION:
                raise CheckpointError(
                    f"{path} has format version {raw.get('version')}, this release reads {FORMAT_VERSION}: "
                    "give the run another name, or continue it with the release that wrote it"
                )
            return TrainerState(**raw)
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"cannot read {path}: {error}. Remove that checkpoint folder to go back one."
            ) from error

    def load_weights(self, step: int, model: Any) -> None:
        """Restores the weights (of the adapters alone, for a model with LoRA) saved at ``step`` in place."""
        path = self.path(step)
        try:
            if hasattr(model, "disable_adapter"):
                from peft import load_peft_weights, set_peft_model_state_dict

                set_peft_model_state_dict(model, load_peft_weights(str(path), device="cpu"))
            else:
                saved = AutoModelForCausalLM.from_pretrained(path, dtype=model.dtype, local_files_only=True)
                model.load_state_dict(saved.state_dict())
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise CheckpointError(f"cannot restore the weights from {path}: {error}") from error

    def load_optimizer(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Restores optimiser moments saved at ``step`` in place."""
        path = self.path(step) / OPTIMIZER_FILE
        try:
            optimizer.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"cannot restore the optimiser from {path}: {error}") from error

    def _prune(self, keep: set[int | None]) -> None:
        for step in self.steps():
            if step not in keep:
                # Renamed first, so that a kill in the middle leaves no half checkpoint under a valid name.
                doomed = self.folder / f".removing-{step}"
                self.path(step).rename(doomed)
                shutil.rmtree(doomed)
        for leftover in self.folder.glob(".removing-*"):
            shutil.rmtree(leftover, ignore_errors=True)
