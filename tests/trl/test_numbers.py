"""The pure functions of the merge on hand-made numbers."""

from __future__ import annotations

import math

import pytest
import torch

from astune.refine.training.credit import Chain
from astune.refine.types import Grade
from astune.trl.advantages import refined_advantages
from astune.trl.correctness import Correctness, grades, total_rewards
from astune.trl.logprobs import importance_ratio
from astune.trl.peers import filled

NAN = math.nan


def test_tasks_without_a_refined_row_keep_trls_advantages() -> None:
    chains = [Chain(0, (1.0,)), Chain(0, (1.0,)), Chain(1, (0.0, 1.0)), Chain(1, (1.0,))]
    advantages = refined_advantages(torch.tensor([0.25, -0.25, 9.0, 9.0]), chains, "none")
    # Row 3 was right at once where the other was not; row 2 is its turn's only attempt: 1 - 0.
    assert advantages.tolist() == [0.25, -0.25, 1.0, 1.0]


@pytest.mark.parametrize(
    ("scale", "divisor"), [("none", 1.0), ("group", math.sqrt(0.5) + 1e-4), ("batch", math.sqrt(1 / 3) + 1e-4)]
)
def test_advantages_are_scaled_as_the_trainer_is_told(scale: str, divisor: float) -> None:
    chains = [Chain(0, (0.0, 1.0)), Chain(0, (0.0, 0.0)), Chain(1, (1.0,)), Chain(1, (1.0,))]
    advantages = refined_advantages(torch.zeros(4), chains, scale)
    # Second turn of task 0: 1 and 0, each against the other. The batch's rewards are now 1, 0, 1, 1.
    batch_divisor = 0.5 + 1e-4
    expected = 1.0 / (batch_divisor if scale == "batch" else divisor)
    assert advantages.tolist() == pytest.approx([expected, -expected, 0.0, 0.0])


def test_a_refined_row_that_could_not_be_graded_gets_nothing() -> None:
    chains = [Chain(0, (0.0, None)), Chain(0, (1.0,))]
    assert refined_advantages(torch.tensor([5.0, 5.0]), chains, "none").tolist() == [0.0, 1.0]


def test_rewards_are_weighted_and_missing_ones_left_out() -> None:
    rewards = torch.tensor([[1.0, 0.5], [NAN, 0.5], [NAN, NAN]])
    totals = total_rewards(rewards, torch.tensor([1.0, 2.0])).tolist()
    assert totals[:2] == [2.0, 1.0]
    assert math.isnan(totals[2])


def test_one_function_decides_and_all_reward() -> None:
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0], [NAN, 1.0], [1.0, math.inf]])
    correctness = Correctness.of(["exact", "style"], None, 0.5)
    assert grades(rewards, torch.ones(2), correctness, ["exact", "style"]) == [
        Grade(1.0, True),
        Grade(1.0, False),
        Grade(1.0, None),
        Grade(None, None),
    ]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("token_truncate", [[2.0, 1.0, 0.5]]),
        ("token_mask", [[0.0, 1.0, 0.5]]),
        ("sequence_truncate", [[2.0]]),
        ("sequence_mask", [[2.0]]),
    ],
)
def test_importance_ratios(mode: str, expected: list[list[float]]) -> None:
    old = torch.tensor([[math.log(4.0), 0.0, math.log(0.5), 5.0]])
    sampling = torch.tensor([[0.0, NAN, 0.0, 0.0]])  # the second is unknown: no correction
    mask = torch.tensor([[1, 1, 1, 0]])
    ratio = importance_ratio(old, sampling, mask, mode=mode, low=None, high=2.0)
    assert ratio[:, :3].tolist() == [pytest.approx(row) for row in expected]


def test_filled_up_to_a_size() -> None:
    assert filled(["a"], 3, "-") == ["a", "-", "-"]
    assert filled(["a", "b"], 2, "-") == ["a", "b"]
