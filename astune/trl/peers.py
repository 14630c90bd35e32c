"""What the processes of one training have to do together, and what each may do alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Peers:
    """The trainer's processes.

    A collective call that one process makes and another does not is a hang. Rewards are gathered by TRL, so grading is
    collective wherever there are several processes; sampling and forward passes are when the model itself is spread
    over them (FSDP, ZeRO-3) or served to all of them (vLLM).
    """

    def __init__(self, trainer: Any) -> None:
        self._accelerator = trainer.accelerator
        spread = trainer.use_vllm or trainer._dist.is_fsdp or trainer._dist.is_zero3
        self.model_is_shared = bool(self.count > 1 and spread)

    @property
    def count(self) -> int:
        """Number of processes."""
        return int(self._accelerator.num_processes)

    @property
    def index(self) -> int:
        """This process's number, from 0."""
        return int(self._accelerator.process_index)

    @property
    def device(self) -> torch.device:
        """This process's device."""
        device: torch.device = self._accelerator.device
        return device

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers. Collective."""
        if self.count == 1:
            return number
        return int(self._accelerator.gather(torch.tensor([number], device=self.device)).max())

    def gather(self, rows: Tensor) -> Tensor:
        """(B, ...) of every process -> (processes x B, ...), in the processes' order. Collective."""
        gathered: Tensor = self._accelerator.gather(rows) if self.count > 1 else rows
        return gathered

    def mine(self, gathered: Tensor) -> Tensor:
        """This process's part of what :meth:`gather` returned."""
        size = gathered.size(0) // self.count
        return gathered[self.index * size : (self.index + 1) * size]


def filled(items: Sequence[T], size: int, filler: T) -> list[T]:
    """``items``, and ``filler`` as often as it takes to reach ``size``."""
    return [*items, *[filler] * (size - len(items))]
