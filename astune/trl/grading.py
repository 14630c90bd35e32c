"""Rewards of refined attempts, from the trainer's own reward functions and for the original prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from trl.trainer.grpo_trainer import GRPOTrainer

from astune.refine.types import Grade, GradeRequest
from astune.trl.attempts import FirstAttempts
from astune.trl.correctness import Correctness, grades
from astune.trl.peers import Peers, filled
from astune.trl.sampler import TrlDetail


def grade_attempts(
    trainer: Any, first: FirstAttempts, requests: Sequence[GradeRequest], correctness: Correctness, peers: Peers
) -> list[Grade]:
    """One grade a request. Collective: TRL gathers rewards, so all processes grade equally many attempts.

    A reward function sees what it would see of a first attempt: the row's prompt and columns, the completion, its ids.
    It gets only the rows that are graded; one that compares the rows of a whole batch cannot be used here. A process
    with fewer attempts than another fills up with its first row's first attempt, whose reward is dropped.
    """
    if (size := peers.largest(len(requests))) == 0:
        return []
    filler = (0, first.completions[0], first.completion_ids[0])
    taken = filled([(one.row, _completion(one), one.sample.completion_ids) for one in requests], size, filler)
    with _logs_set_aside(trainer):
        # The base class's method: these are not first attempts, and are not to be remembered as such.
        gathered = GRPOTrainer._calculate_rewards(
            trainer,
            [first.inputs[row] for row, _, _ in taken],
            [first.prompts[row] for row, _, _ in taken],
            [completion for _, completion, _ in taken],
            [ids for _, _, ids in taken],
        )
    mine = peers.mine(gathered)[: len(requests)]
    return grades(mine, trainer.reward_weights, correctness, trainer.reward_func_names)


def _completion(request: GradeRequest) -> Any:
    detail = request.sample.detail
    assert isinstance(detail, TrlDetail)
    return detail.completion


@contextmanager
def _logs_set_aside(trainer: Any) -> Iterator[None]:
    """Keeps what reward functions log about refined attempts out of the columns that TRL keeps of first ones."""
    kept = trainer._pending_extra_logs, trainer._pending_metrics
    trainer._pending_extra_logs, trainer._pending_metrics = defaultdict(list), defaultdict(list)
    try:
        yield
    finally:
        trainer._pending_extra_logs, trainer._pending_metrics = kept
