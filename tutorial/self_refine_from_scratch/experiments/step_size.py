"""How far may one edit go? The error's factor a step, and the limit that curvature sets."""

from __future__ import annotations

import torch
from from_scratch import Generator, QuadraticScorer, reflect_and_edit, self_refine
from torch import Tensor

from experiments.table import Table, fixed

DIM, ROUNDS = 6, 10
STEP_SIZES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1)
EIGENVALUES = (1.0, 4.0, 10.0)


class CurvedScorer(QuadraticScorer):
    """score(x) = -1/2 (x - target)^T H (x - target), with a symmetric positive definite H. H = 2 I is the toy's own."""

    def __init__(self, target_D: Tensor, hessian_DD: Tensor):
        super().__init__(target_D)
        self.hessian_DD = hessian_DD

    def score(self, candidates_xD: Tensor) -> Tensor:
        """(..., D) -> (...)."""
        return ((candidates_xD - self.target_D) * self.gradient(candidates_xD)).sum(dim=-1) / 2

    def gradient(self, candidates_xD: Tensor) -> Tensor:
        """-H (x - target): (..., D) -> (..., D)."""
        return -(candidates_xD - self.target_D) @ self.hessian_DD


def tables() -> list[Table]:
    """One table for the toy's round bowl, one for a bowl with three different curvatures."""
    return [_round_bowl(), _curved_bowl()]


def _round_bowl() -> Table:
    rows = []
    for step_size in STEP_SIZES:
        torch.manual_seed(0)
        scorer = QuadraticScorer(3 * torch.randn(DIM))
        first_D = Generator(DIM).generate()[0]
        second_D = reflect_and_edit(first_D, scorer, step_size)
        measured = float((second_D - scorer.target_D).norm() / (first_D - scorer.target_D).norm())
        torch.manual_seed(0)
        scorer = QuadraticScorer(3 * torch.randn(DIM))
        result = self_refine(Generator(DIM), scorer, rounds=ROUNDS, step_size=step_size)
        cells = (abs(1 - 2 * step_size), measured, result.initial_score, result.score_history[-1], result.best_score)
        rows.append([f"{step_size:g}", *(fixed(value) for value in cells)])
    columns = ["η", "factor, derived", "factor, measured", "first score", f"latest, {ROUNDS} rounds", "best"]
    return Table("step_size", columns, rows)


def _curved_bowl() -> Table:
    """The factor that remains after many rounds is that of the slowest (or the diverging) direction."""
    torch.manual_seed(0)
    eigenvalues_D = torch.tensor(EIGENVALUES, dtype=torch.float64)
    rotation_DD = torch.linalg.qr(torch.randn(len(EIGENVALUES), len(EIGENVALUES), dtype=torch.float64)).Q
    scorer = CurvedScorer(torch.ones_like(eigenvalues_D), rotation_DD @ eigenvalues_D.diag() @ rotation_DD.T)
    limit = 2 / max(EIGENVALUES)
    best = 2 / (min(EIGENVALUES) + max(EIGENVALUES))
    rows = []
    for label, step_size in (
        ("0.5 of the limit", 0.5 * limit),
        ("2/(λmin + λmax)", best),
        ("0.99 of the limit", 0.99 * limit),
        ("the limit 2/λmax", limit),
        ("1.01 of the limit", 1.01 * limit),
    ):
        candidate_D = scorer.target_D + rotation_DD.sum(dim=1)  # the same error in each of the three directions
        distances = []
        for _ in range(100):
            distances.append(float((candidate_D - scorer.target_D).norm()))
            candidate_D = reflect_and_edit(candidate_D, scorer, step_size)
        predicted = max(abs(1 - step_size * eigenvalue) for eigenvalue in EIGENVALUES)
        rows.append([label, *(fixed(v, 3) for v in (step_size, predicted, distances[-1] / distances[-2]))])
    return Table("curvature", ["step size", "η", "factor, derived", "factor, measured"], rows)
