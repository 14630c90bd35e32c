"""What refinement did to a batch, logged with TRL's own metrics under ``refine/``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from astune.refine.report import Transitions
from astune.refine.types import Grade, History
from astune.trl.peers import Peers


def log_outcomes(trainer: Any, first: Sequence[Grade], histories: Sequence[History], peers: Peers) -> None:
    """Adds one batch, over all processes, to the metrics that TRL averages and logs next. Collective.

    ``refine/accuracy_t1``, ``accuracy_t2``, ``delta``; the shares of all rows that went ``i_to_c``, ``i_to_i``,
    ``c_to_c``, ``c_to_i``; ``reward_t2``; ``rows`` refined, and sampled tokens a refined row by role. A row that could
    not be graded counts as incorrect. Where only incorrect rows are refined, ``accuracy_t2`` is gated by the
    reward itself: it cannot show correct answers that refinement would spoil.
    """
    final = list(first)
    for history in histories:
        final[history.row] = history.final.grade
    moved = Transitions.count([one.correct is True for one in first], [one.correct is True for one in final])
    rewards = [one.reward for one in final if one.reward is not None]
    tokens = [history.completion_tokens for history in histories]
    local = [
        *(moved.i_to_c, moved.i_to_i, moved.c_to_c, moved.c_to_i),
        *(sum(rewards), len(rewards), len(histories)),
        *(sum(used[role] for used in tokens) for role in ("critique", "refine")),
    ]
    numbers = torch.tensor([local], dtype=torch.float64, device=peers.device)
    i_to_c, i_to_i, c_to_c, c_to_i, reward, graded, rows, critique, refine = peers.gather(numbers).sum(dim=0).tolist()
    total = i_to_c + i_to_i + c_to_c + c_to_i
    metrics = {
        "accuracy_t1": (c_to_c + c_to_i) / total,
        "accuracy_t2": (c_to_c + i_to_c) / total,
        "delta": (i_to_c - c_to_i) / total,
        "i_to_c": i_to_c / total,
        "i_to_i": i_to_i / total,
        "c_to_c": c_to_c / total,
        "c_to_i": c_to_i / total,
        "reward_t2": reward / graded if graded else float("nan"),
        "rows": rows,
        "critique_tokens": critique / max(rows, 1),
        "refine_tokens": refine / max(rows, 1),
    }
    logged = trainer._metrics["train" if trainer.model.training else "eval"]
    for name, value in metrics.items():
        logged[f"refine/{name}"].append(value)
