"""The same number of scored attempts, side by side (best-of-N) or one after another (refinement)."""

from __future__ import annotations

import math

import torch
from from_scratch import QuadraticScorer
from torch import Tensor

from experiments.table import Table, mean

PROBLEMS, STEP_SIZE = 2000, 0.25
BUDGETS = (1, 4, 16, 64)
DISTANCE, DEPTH = 3.0, 4.0  # two peaks: how far to each side they lie, and how much lower the wrong one is


def tables() -> list[Table]:
    """One peak with feedback of different quality; then two peaks."""
    return [_one_peak(), _two_peaks()]


def _one_peak() -> Table:
    rows = []
    for dim in (2, 8):
        torch.manual_seed(0)
        scores_SN = QuadraticScorer(torch.ones(dim)).score(torch.randn(PROBLEMS, max(BUDGETS), dim))
        best_of_n = [mean(scores_SN[:, :budget].amax(dim=1)) for budget in BUDGETS]
        rows.append([f"best-of-N, D = {dim}", *best_of_n])
    rows += [[f"refine, D = 8, feedback cos = {cosine:g}", *_refine(cosine, 8)] for cosine in (1.0, 0.5, 0.3, 0.0)]
    return Table("best_of_n", ["method", *(f"budget {budget}" for budget in BUDGETS)], rows)


def _refine(cosine: float, dim: int) -> list[str]:
    """Refinement by feedback that points ``cosine`` towards the gradient, and for the rest at random across it."""
    torch.manual_seed(0)
    scorer = QuadraticScorer(torch.ones(dim))
    latest_SD = torch.randn(PROBLEMS, max(BUDGETS), dim)[:, 0]  # the first attempt that best-of-N has, too
    best_S = scorer.score(latest_SD)
    by_budget = {1: best_S}
    for budget in range(2, max(BUDGETS) + 1):
        gradient_SD = scorer.gradient(latest_SD)
        latest_SD = latest_SD + STEP_SIZE * turned(gradient_SD, cosine)
        best_S = best_S.maximum(scorer.score(latest_SD))
        by_budget[budget] = best_S
    return [mean(by_budget[budget]) for budget in BUDGETS]


def turned(gradient_SD: Tensor, cosine: float) -> Tensor:
    """A vector as long as the gradient, at the given cosine to it, otherwise in a random direction."""
    length_S1: Tensor = gradient_SD.norm(dim=1, keepdim=True)
    towards_SD = gradient_SD / length_S1.clamp(min=1e-30)
    random_SD = torch.randn_like(gradient_SD)
    across_SD: Tensor = random_SD - (random_SD * towards_SD).sum(dim=1, keepdim=True) * towards_SD
    across_SD /= across_SD.norm(dim=1, keepdim=True)
    return length_S1 * (cosine * towards_SD + math.sqrt(1 - cosine**2) * across_SD)


def _two_peaks() -> Table:
    """score(x) = max(-||x - t||^2, -depth - ||x - s||^2): a reflection climbs the peak that it stands on."""
    torch.manual_seed(0)
    right = QuadraticScorer(torch.tensor([DISTANCE, 0.0]))
    wrong = QuadraticScorer(torch.tensor([-DISTANCE, 0.0]))
    first_SND = torch.randn(PROBLEMS, max(BUDGETS), 2)

    def refined(starts: int, budget: int) -> Tensor:
        latest_SKD = first_SND[:, : min(starts, budget)]
        best_S = _score(latest_SKD, right, wrong).amax(dim=1)
        for _ in range(budget // starts - 1):
            on_right_SK1 = (right.score(latest_SKD) > wrong.score(latest_SKD) - DEPTH)[..., None]
            uphill_SKD = torch.where(on_right_SK1, right.gradient(latest_SKD), wrong.gradient(latest_SKD))
            latest_SKD = latest_SKD + STEP_SIZE * uphill_SKD
            best_S = best_S.maximum(_score(latest_SKD, right, wrong).amax(dim=1))
        return best_S

    rows = [
        ["best-of-N", *(mean(_score(first_SND[:, :budget], right, wrong).amax(dim=1)) for budget in BUDGETS)],
        ["refine one start", *(mean(refined(1, budget)) for budget in BUDGETS)],
        ["refine four starts", *(mean(refined(4, budget)) for budget in BUDGETS)],
    ]
    return Table("two_peaks", ["method", *(f"budget {budget}" for budget in BUDGETS)], rows)


def _score(candidates_xD: Tensor, right: QuadraticScorer, wrong: QuadraticScorer) -> Tensor:
    return right.score(candidates_xD).maximum(wrong.score(candidates_xD) - DEPTH)
