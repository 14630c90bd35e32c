"""What if the model that writes the answer also judges it?

Truth is the target t = 0. A model doesn't know t; it believes in t + bias. The generator reflects on its own belief;
the scorer, whose belief has correlation rho with the generator's, decides what is kept.
"""

from __future__ import annotations

import torch
from from_scratch import QuadraticScorer, reflect_and_edit
from torch import Tensor

from experiments.table import Table, mean, percent

PROBLEMS, DIM, ROUNDS, STEP_SIZE = 4000, 6, 10, 0.15
TRUTH = QuadraticScorer(torch.zeros(DIM))
NEAR, FAR = 1.0, 3.0  # the first attempt's error, in units of the bias


def tables() -> list[Table]:
    """How much better the kept answer is by the scorer's own view, and in truth."""
    rows = []
    for label, correlation in (
        ("the generator itself (ρ = 1)", 1.0),
        ("a close relative (ρ = 0.9)", 0.9),
        ("a relative (ρ = 0.5)", 0.5),
        ("a stranger (ρ = 0)", 0.0),
        ("a verifier that knows t", None),
        ("a stranger, who also reflects", "both"),
    ):
        cells = [_refine(correlation, start) for start in (NEAR, FAR)]
        (near_claim, near_gain, near_worse), (_, far_gain, far_worse) = cells
        rows.append([label, near_claim, near_gain, near_worse, far_gain, far_worse])
    columns = [
        "who decides what is kept",
        "near: gain it sees",
        "near: true gain",
        "near: made worse",
        "far: true gain",
        "far: made worse",
    ]
    return [Table("self_confirmation", columns, rows)]


def _refine(correlation: float | str | None, start: float) -> tuple[str, str, str]:
    torch.manual_seed(0)
    bias_SD, other_SD = torch.randn(2, PROBLEMS, DIM)
    first_SD = start * torch.randn(PROBLEMS, DIM)
    generator, judge = QuadraticScorer(bias_SD), QuadraticScorer(other_SD)
    if correlation == "both":
        generator = QuadraticScorer((bias_SD + other_SD) / 2)  # the mean of two reflections is that of the mean belief
    elif correlation is None:
        judge = TRUTH
    else:
        rho = float(correlation)
        judge = QuadraticScorer(rho * bias_SD + (1 - rho**2) ** 0.5 * other_SD)
    kept_SD = keep_best(first_SD, generator, judge)[-1]
    true_gain_S = TRUTH.score(kept_SD) - TRUTH.score(first_SD)
    return mean(judge.score(kept_SD) - judge.score(first_SD)), mean(true_gain_S), percent(true_gain_S < 0)


def keep_best(first_SD: Tensor, generator: QuadraticScorer, judge: QuadraticScorer) -> list[Tensor]:
    """The loop of from_scratch.py on S problems at once: what is kept (S, D) after each round, the first included."""
    latest_SD = best_SD = first_SD
    kept = [best_SD]
    for _ in range(ROUNDS):
        latest_SD = reflect_and_edit(latest_SD, generator, STEP_SIZE)
        better_S = judge.score(latest_SD) > judge.score(best_SD)
        best_SD = torch.where(better_S[:, None], latest_SD, best_SD)
        kept.append(best_SD)
    return kept
