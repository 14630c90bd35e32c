"""What TRL's trainer offers to a refining agent: it samples, grades and merges with the trainer's own parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from accelerate.utils import gather_object  # type: ignore[import-untyped]
from torch import Tensor

from astune.refine.types import Attempt, Grade, GradeRequest, History, Sample
from astune.trl.attempts import FirstAttempts
from astune.trl.correctness import Correctness, grades, total_rewards
from astune.trl.grading import grade_attempts
from astune.trl.layout import Batch, prompt_tokens
from astune.trl.merge import merge_histories
from astune.trl.metrics import log_outcomes
from astune.trl.peers import Peers
from astune.trl.sampler import TrlDetail, TrlSampler

Row = TypeVar("Row")


class TrlStage:
    """A TRL trainer's :class:`~astune.refine.trainer_stage.TrainerStage`. It speaks of the batch begun last.

    Attributes:
        sampler: TRL's own generation, for the rows asked for.
        is_main: whether this process prints and logs.
    """

    def __init__(self, trainer: Any, correctness: Correctness) -> None:
        self.trainer = trainer
        self.correctness = correctness
        self.peers = Peers(trainer)
        self.sampler = TrlSampler(trainer, self.peers)
        self.is_main = bool(trainer.accelerator.is_main_process)
        self._first: FirstAttempts | None = None
        self._grades: list[Grade] = []
        self._result: Batch = {}

    def begin(self, first: FirstAttempts, result: Batch) -> Tensor:
        """Takes the first attempts of a batch, and says which are correct: (B,) bool.

        One that could not be graded is not known to be correct: False.
        """
        self._first = self.sampler.first = first
        self._result = result
        trainer = self.trainer
        mine = self.peers.mine(first.rewards)
        self._grades = grades(mine, trainer.reward_weights, self.correctness, trainer.reward_func_names)
        correct = [grade.correct is True for grade in self._grades]
        return torch.tensor(correct, dtype=torch.bool, device=self.peers.device)

    @property
    def first(self) -> list[Attempt]:
        """The first attempts with their grades, one a row."""
        first = self._begun()
        return [
            Attempt(
                Sample(
                    text=text,
                    prompt_ids=prompt_tokens(self._result, row),
                    completion_ids=list(first.completion_ids[row]),
                    detail=TrlDetail(first.completions[row], {}),
                ),
                self._grades[row],
            )
            for row, text in enumerate(first.texts)
        ]

    def grade(self, attempts: Sequence[GradeRequest]) -> list[Grade]:
        """One grade an attempt, by the trainer's reward functions on the rows' own prompts and columns. Collective."""
        return grade_attempts(self.trainer, self._begun(), attempts, self.correctness, self.peers)

    def merge(self, original_result: Batch, histories: Sequence[History]) -> Batch | None:
        """The batch with refined attempts in the place of first ones; None where no process has any. Collective.

        Logs the batch's ``refine/`` metrics, whether anything was refined or not.
        """
        log_outcomes(self.trainer, self._grades, histories, self.peers)
        rewards = total_rewards(self.peers.mine(self._begun().rewards), self.trainer.reward_weights)
        return merge_histories(self.trainer, original_result, rewards, histories, self.peers)

    def any_process(self, local: bool) -> bool:
        """Whether it is so on any process. Collective."""
        return self.peers.largest(int(local)) > 0

    def gather(self, rows: list[Row]) -> list[Row]:
        """The rows of all processes, in order of rank. Collective."""
        gathered: list[Row] = gather_object(rows) if self.peers.count > 1 else rows
        return gathered

    def _begun(self) -> FirstAttempts:
        assert self._first is not None, "no batch was begun"
        return self._first
