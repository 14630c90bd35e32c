"""The best or the latest? And what does choosing by a noisy score cost?"""

from __future__ import annotations

import torch
from from_scratch import Generator, QuadraticScorer, self_refine

from experiments.table import Table, mean, percent

SEEDS, DIM, ROUNDS = 400, 6, 10
POOLS, SCORE_NOISE = 4000, 4.0


def tables() -> list[Table]:
    """Keep-best against keep-latest, and the winner's curse."""
    return [_best_or_latest(), _winners_curse()]


def _best_or_latest() -> Table:
    rows = []
    for noise, step_size in ((0.0, 0.25), (0.5, 0.25), (1.0, 0.25), (0.5, 0.95), (0.5, 1.05)):
        best, latest, initial = [], [], []
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            scorer = QuadraticScorer(2 * torch.randn(DIM))
            result = self_refine(Generator(DIM, noise), scorer, rounds=ROUNDS, step_size=step_size)
            best.append(result.best_score)
            latest.append(result.score_history[-1])
            initial.append(result.initial_score)
        first_S, latest_S, best_S = (torch.tensor(scores) for scores in (initial, latest, best))
        lost_S = latest_S < first_S
        rows.append([f"{step_size:g}", f"{noise:g}", mean(latest_S), mean(best_S), percent(lost_S)])
    columns = ["η", "generator's noise", "score of the latest", "score of the best", "latest worse than the first"]
    return Table("keep_best", columns, rows)


def _winners_curse() -> Table:
    """Best-of-N by a noisy score: what it says of the chosen candidate, what is true, what a second look says."""
    rows = []
    for count in (1, 4, 16, 64):
        torch.manual_seed(0)
        true_PK = QuadraticScorer(torch.zeros(DIM)).score(torch.randn(POOLS, count, DIM))
        seen_PK = true_PK + SCORE_NOISE * torch.randn(POOLS, count)
        chosen_P1 = seen_PK.argmax(dim=1, keepdim=True)
        seen_P, true_P = (scores_PK.gather(1, chosen_P1).squeeze(1) for scores_PK in (seen_PK, true_PK))
        second_look_P = true_P + SCORE_NOISE * torch.randn(POOLS)
        rows.append([str(count), mean(seen_P), mean(true_P), mean(second_look_P)])
    columns = ["N", "score by which it was chosen", "its true score", "scored again, independently"]
    return Table("winners_curse", columns, rows)
