"""What the refine stage asks of TRL's trainer: sample, grade, merge, measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
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


class TrlStage:
    """One trainer's side of the refine stage. Rows are those of this process; the batch is the last one begun.

    With several processes, :meth:`grade` and :meth:`merge` are collective: each process calls them equally often,
    with nothing where it has nothing (:attr:`peers` tells whether any has).
    """

    def __init__(self, trainer: Any, correctness: Correctness) -> None:
        self.trainer = trainer
        self.correctness = correctness
        self.peers = Peers(trainer)
        self.sampler = TrlSampler(trainer, self.peers)
        self._first: FirstAttempts | None = None
        self._grades: list[Grade] = []
        self._result: Batch = {}

    def begin(self, first: FirstAttempts, result: Batch) -> Tensor:
        """Takes the first attempts of a batch, and says which are correct: (B,) bool.

        An attempt that could not be graded is not known to be correct: False.
        """
        self._first = self.sampler.first = first
        self._result = result
        mine = self.peers.mine(first.rewards)
        trainer = self.trainer
        self._grades = grades(mine, trainer.reward_weights, self.correctness, trainer.reward_func_names)
        correct = [grade.correct is True for grade in self._grades]
        return torch.tensor(correct, dtype=torch.bool, device=self.peers.device)

    @property
    def first(self) -> list[Attempt]:
        """The first attempts with their grades, one a row."""
        first, result = self._begun(), self._result
        return [
            Attempt(
                Sample(
                    text=text,
                    prompt_ids=prompt_tokens(result, row),
                    completion_ids=list(first.completion_ids[row]),
                    detail=TrlDetail(first.completions[row], {}),
                ),
                self._grades[row],
            )
            for row, text in enumerate(first.texts)
        ]

    def any_process(self, flag: bool) -> bool:
        """Whether it is so on any process. Collective."""
        return self.peers.largest(int(flag)) > 0

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade an attempt, by the trainer's reward functions. Collective."""
        return grade_attempts(self.trainer, self._begun(), requests, self.correctness, self.peers)

    def merge(self, result: Batch, histories: Sequence[History]) -> Batch | None:
        """The batch with refined attempts in the place of first ones; None where no process has any. Collective.

        Logs the batch's ``refine/...`` metrics with TRL's own, refined or not.
        """
        log_outcomes(self.trainer, self._grades, histories, self.peers)
        rewards = total_rewards(self.peers.mine(self._begun().rewards), self.trainer.reward_weights)
        return merge_histories(self.trainer, result, rewards, histories, self.peers)

    def _begun(self) -> FirstAttempts:
        assert self._first is not None, "no batch was begun"
        return self._first
