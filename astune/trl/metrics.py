"""What refinement did to a batch, logged with TRL's own metrics under ``refine/``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from astune.refine.training.outcomes import Transitions
from astune.refine.types import Grade, History
from astune.trl.peers import Peers


def log_outcomes(trainer: Any, first: Sequence[Grade], histories: Sequence[History], peers: Peers) -> None:
    """Adds one batch, over all processes, to the metrics that TRL averages and logs next. Collective.

    ``refine/accuracy_t1``, ``accuracy_t2``, ``delta``; the shares of all rows that went ``i_to_c``, ``i_to_i``,
    ``c_to_c``, ``c_to_i``; ``reward_t2``; ``rows`` refined, and sampled tokens a refined row by role. A row that could
    not be graded is left out. Where only incorrect rows are refined, ``accuracy_t2`` is gated by the
    reward itself: it cannot show correct answers that refinement would spoil.
    """
    final = list(first)
    for history in histories:
        final[history.row] = history.final.grade
    graded = [(a.correct, b.correct) for a, b in zip(first, final, strict=True) if None not in (a.correct, b.correct)]
    moved = Transitions.of([bool(before) for before, _ in graded], [bool(after) for _, after in graded])
    rewards = [one.reward for one in final if one.reward is not None]
    tokens = [history.completion_tokens for history in histories]
    local = [
        *(moved.ic, moved.ii, moved.cc, moved.ci),
        *(sum(rewards), len(rewards), len(histories)),
        *(sum(used[role] for used in tokens) for role in ("critique", "refine")),
    ]
    numbers = torch.tensor([local], dtype=torch.float64, device=peers.device)
    ic, ii, cc, ci, reward, scored, rows, critique, refine = peers.gather(numbers).sum(dim=0).tolist()
    total = ic + ii + cc + ci or math.nan  # TRL leaves NaN out of its averages
    metrics = {
        "accuracy_t1": (cc + ci) / total,
        "accuracy_t2": (cc + ic) / total,
        "delta": (ic - ci) / total,
        "i_to_c": ic / total,
        "i_to_i": ii / total,
        "c_to_c": cc / total,
        "c_to_i": ci / total,
        "reward_t2": reward / (scored or math.nan),
        "rows": rows,
        "critique_tokens": critique / max(rows, 1),
        "refine_tokens": refine / max(rows, 1),
    }
    logged = trainer._metrics["train" if trainer.model.training else "eval"]
    for name, value in metrics.items():
        logged[f"refine/{name}"].append(value)
