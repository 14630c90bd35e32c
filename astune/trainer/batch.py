"""What one optimiser step trains on: rows with their advantages, in parts that are averaged each by itself.

Without refinement there is one part. With it, the loss is a sum over turns of each turn's own mean, so that long
critiques can't drown answers, and each turn has its own KL coefficient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from astune.trainer.losses import LossConfig, LossFunction, Normaliser, TokenBatch
from astune.trainer.packing import PackedBatch, TrainRow


@dataclass(frozen=True, slots=True)
class LossPart:
    """Rows that are averaged together: first answers, critiques, or one turn's refinements.

    Attributes:
        name: under which its metrics are recorded.
        function: the loss of its tokens.
        norm: counts over all its rows, those that are not forwarded included.
        constants: those of the loss, the KL coefficient ``beta`` among them.
        off_policy: its tokens were sampled from another context: their old log-probs are the recorded ones.
    """

    name: str
    function: LossFunction
    norm: Normaliser
    constants: LossConfig
    off_policy: bool = False


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """The rows to forward, whose ``part`` is an index into ``parts``."""

    rows: list[TrainRow]
    parts: tuple[LossPart, ...]

    def by_part(self, packed: PackedBatch, tokens: TokenBatch) -> Iterator[tuple[LossPart, TokenBatch]]:
        """The parts of a micro-batch, each with its tokens; the batch itself where it is all of one part."""
        present = sorted(set(packed.parts))
        for number in present:
            part = self.parts[number]
            own = tokens if not part.off_policy else tokens.with_old_logps(packed.old_logps_L)
            yield part, own if len(present) == 1 else own.only(packed.tokens_of(number))
