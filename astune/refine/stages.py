"""How much each turn weighs in the loss, and how strongly it is held to the reference, as a function of the step.

The loss is a sum over turns of lambda_turn times that turn's *mean*, so that a turn of long segments
can't drown the others. SCoRe (Kumar et al., 2024, arXiv:2409.12917) trains in two stages: first only the second
attempt, with the first held to the reference by a strong KL term; then both.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from astune.errors import ConfigError
from astune.refine.credit import Credit


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


def two_stages(steps: int, *, first_turn_kl: float = 0.1, kl: float = 0.0) -> tuple[Stage, Stage]:
    """SCoRe's schedule: only later turns are trained for ``steps`` steps, then all alike.

    Until then turn 1 has lambda 0 and the KL coefficient ``first_turn_kl``. Everything else has ``kl``.
    """
    return Stage(0, loss=(0.0, 1.0), kl=(first_turn_kl, kl)), Stage(steps, loss=(1.0,), kl=(kl,))


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """The stage that holds at ``step`` (from 0).

    Raises:
        ConfigError: the stages do not begin at step 0, or not one after the other.
    """
    starts = [stage.start for stage in stages]
    if not starts or starts[0] != 0 or any(a >= b for a, b in itertools.pairwise(starts)):
        raise ConfigError(f"refine.stages must begin at step 0 and then rise, got the starts {starts}")
    return [stage for stage in stages if stage.start <= step][-1]


def weigh_turns(credits: Sequence[Credit], stage: Stage, sizes: Sequence[int] | None = None) -> list[Credit]:
    """Credits whose weights turn a mean over all segments into the sum of lambda_turn times each turn's mean.

    A turn here is (turn, role): critiques and experts have means of their own.

    Args:
        credits: of one optimiser step.
        stage: its lambdas.
        sizes: trained tokens of each segment, for losses that divide by all trained tokens; None for losses that
            divide by the number of segments.
    """
    counts = [1] * len(credits) if sizes is None else list(sizes)
    totals: dict[tuple[str, int], int] = {}
    for credit, count in zip(credits, counts, strict=True):
        key = (credit.role, _weighed_turn(credit))
        totals[key] = totals.get(key, 0) + count
    everything = sum(counts)
    return [
        dataclasses.replace(
            credit,
            weight=stage.loss_weight(credit) * everything / max(totals[credit.role, _weighed_turn(credit)], 1),
        )
        for credit in credits
    ]


def _weighed_turn(credit: Credit) -> int:
    """A critique counts with the attempt that it leads to, an expert with the prompt that it answers."""
    if credit.role == "expert":
        return 1
    return credit.turn + 1 if credit.role == "critique" else credit.turn


def _of_turn(values: tuple[float, ...], turn: int) -> float:
    return values[min(turn, len(values)) - 1]
