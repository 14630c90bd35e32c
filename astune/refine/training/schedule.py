"""How much each turn weighs in the loss, and how strongly it is held to the reference, as a function of the step.

The loss is a sum over turns of lambda_turn times that turn's *mean*, so that a turn of long segments
can't drown the others. SCoRe (Kumar et al., 2024, arXiv:2409.12917) trains in two stages: first only the second
attempt, with the first held to the reference by a strong KL term; then both. In these terms
``[Stage(0, loss=(0, 1), kl=(0.1, 0)), Stage(100)]``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from astune.errors import ConfigError
from astune.refine.training.credit import Credit


@dataclass(frozen=True, slots=True)
class Stage:
    """Settings from step ``start`` (counted from 0) until the next stage begins.

    ``loss`` and ``kl`` hold one number a turn, turn 1 first; turns beyond them take the last. ``kl`` is the
    coefficient of the KL term to the reference.
    """

    start: int = 0
    loss: tuple[float, ...] = (1.0,)
    kl: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        for name, values in (("loss", self.loss), ("kl", self.kl)):
            if not values or min(values) < 0:
                raise ConfigError(f"refine.stages: {name} needs one number of 0 or more a turn, got {list(values)}")

    def loss_weight(self, credit: Credit) -> float:
        """lambda of the segment's turn."""
        return _of_turn(self.loss, _weighed_turn(credit))

    def kl_weight(self, credit: Credit) -> float:
        """KL coefficient of the segment's turn."""
        return _of_turn(self.kl, _weighed_turn(credit))


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """The stage that holds at ``step`` (from 0).

    Raises:
        ConfigError: the stages do not begin at step 0, or not one after the other.
    """
    starts = [stage.start for stage in stages]
    if not starts or starts[0] != 0 or any(a >= b for a, b in itertools.pairwise(starts)):
        raise ConfigError(f"refine.stages must begin at step 0 and then rise, got the starts {starts}")
    return [stage for stage in stages if stage.start <= step][-1]


def _weighed_turn(credit: Credit) -> int:
    """A critique counts with the attempt that it leads to, an expert with the prompt that it answers."""
    if credit.role == "expert":
        return 1
    return credit.turn + 1 if credit.role == "critique" else credit.turn


def _of_turn(values: tuple[float, ...], turn: int) -> float:
    return values[min(turn, len(values)) - 1]
