"""Parts of a batch: each is averaged by itself, and one part alone is the batch as it was without parts."""

from __future__ import annotations

from typing import Any

import torch

from astune.config.schema import Trainer
from astune.trace import Trajectory
from astune.trainer.batch import TrainBatch
from astune.trainer.grpo import PolicyUpdater
from astune.trainer.packing import TrainRow
from tests.trainer.test_grpo import groups, model, weights


def rows(part: int, advantages: list[float], length: int = 2) -> list[TrainRow]:
    """Rows of one part, with sampled tokens of their own."""
    made = []
    for number, advantage in enumerate(advantages):
        ids = [1, 2 + part, *[10 + number + position for position in range(length)]]
        trajectory = Trajectory(ids, [0, 0] + [1] * length, [0.0, 0.0] + [-1.0] * length, [])
        made.append(TrainRow(trajectory, advantage, part, part))
    return made


def updater(policy: Any, **settings: Any) -> PolicyUpdater:
    made = PolicyUpdater(
        policy, None, Trainer(max_grad_norm=0.0, **settings), max_tokens=8, temperature=1.0, with_reference=True
    )
    made.optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    return made


def step_of(wanted: list[list[TrainRow]], betas: list[float], drift: float = 0.0, **settings: Any) -> torch.Tensor:
    """How far one step of gradient descent moves the weights."""
    policy = model()
    update = updater(policy, **settings)
    with torch.no_grad():  # away from the reference, where the KL term has no gradient
        for parameter in policy.parameters():
            parameter += drift * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    parts = tuple(update.part(f"p{n}", of, beta) for n, (of, beta) in enumerate(zip(wanted, betas, strict=True)))
    before = weights(policy)
    update.train(TrainBatch([row for of in wanted for row in of], parts), 0)
    return weights(policy) - before


FIRST, SECOND = rows(0, [1.0, -1.0]), rows(1, [0.5, -0.5, 1.0, -1.0, 2.0], length=9)


def alone(of: list[TrainRow], beta: float, **options: Any) -> torch.Tensor:
    return step_of([[TrainRow(row.trajectory, row.advantage, 0, 0) for row in of]], [beta], **options)


def test_the_loss_is_the_sum_of_the_parts_means() -> None:
    both = step_of([FIRST, SECOND], [0.0, 0.0])
    torch.testing.assert_close(both, alone(FIRST, 0.0) + alone(SECOND, 0.0), rtol=1e-4, atol=1e-6)


def test_a_part_does_not_grow_lighter_beside_a_longer_one() -> None:
    for algorithm in ("grpo", "dapo", "gspo", "cispo", "dr_grpo"):
        both = step_of([FIRST, SECOND], [0.0, 0.0], algorithm=algorithm)
        apart = alone(FIRST, 0.0, algorithm=algorithm) + alone(SECOND, 0.0, algorithm=algorithm)
        torch.testing.assert_close(both, apart, rtol=1e-4, atol=1e-6)


def test_each_part_has_a_kl_coefficient_of_its_own() -> None:
    silent = rows(0, [0.0, 0.0])
    both = step_of([silent, SECOND], [2.0, 0.0], drift=0.05)
    apart = alone(silent, 2.0, drift=0.05) + alone(SECOND, 0.0, drift=0.05)
    torch.testing.assert_close(both, apart, rtol=1e-3, atol=1e-6)
    assert float(alone(silent, 2.0, drift=0.05).norm()) > 0


def test_micro_batches_of_mixed_parts_add_up() -> None:
    mixed = step_of([FIRST, SECOND], [0.0, 0.0], micro_batch_tokens=5)
    torch.testing.assert_close(mixed, step_of([FIRST, SECOND], [0.0, 0.0]), rtol=1e-4, atol=1e-6)


def test_a_second_part_without_rows_changes_no_bit() -> None:
    assert torch.equal(step_of([FIRST, []], [0.0, 0.0]), alone(FIRST, 0.0))


def test_metrics_of_parts_stand_under_their_names() -> None:
    update = updater(model())
    parts = (update.part("turn_1", FIRST, 0.1), update.part("turn_2", SECOND, 0.0))
    metrics = update.train(TrainBatch([*FIRST, *SECOND], parts), 0).metrics
    assert {"kl", "kl/turn_1", "entropy/turn_2"} <= metrics.keys()


def test_a_batch_without_parts_has_the_names_that_it_had() -> None:
    metrics = updater(model()).update(groups([[1.0, 0.0]]), 0).metrics
    assert not [name for name in metrics if "/" in name]
