"""What happens to a slot that must not be chosen, if its score is set to 0 and not to -inf?"""

from __future__ import annotations

import torch
from from_scratch import MASKED, QuadraticScorer
from torch import Tensor

from experiments.table import Table, percent

POOLS, SLOTS, DIM = 2000, 8, 6
FILLS = (0.0, -1.0, -10.0, -100.0, MASKED)


def tables() -> list[Table]:
    """How often argmax chose a masked slot, for each value that stands in for "masked"."""
    torch.manual_seed(0)
    masked_PK = torch.rand(POOLS, SLOTS) < 0.5
    masked_PK[:, 0], masked_PK[:, -1] = True, False  # at least one slot of each kind in every pool
    quadratic_PK = QuadraticScorer(torch.ones(DIM)).score(torch.randn(POOLS, SLOTS, DIM))
    pass_or_fail_PK = (torch.rand(POOLS, SLOTS) < 0.2).float()

    rows = []
    for fill in FILLS:
        chose_masked = (_chose_masked(scores_PK, masked_PK, fill) for scores_PK in (quadratic_PK, pass_or_fail_PK))
        name = "−∞" if fill == MASKED else f"{fill:.0f}".replace("-", "−")
        rows.append([name, *(percent(chose_P) for chose_P in chose_masked)])
    return [Table("masking", ["masked slots get", "score −‖x−t‖²", "reward 0 or 1"], rows)]


def _chose_masked(scores_PK: Tensor, masked_PK: Tensor, fill: float) -> Tensor:
    chosen_P = scores_PK.masked_fill(masked_PK, fill).argmax(dim=1)
    return masked_PK[torch.arange(len(chosen_P)), chosen_P]
