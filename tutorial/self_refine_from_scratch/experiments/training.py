"""Spend compute once, on the weights (RLHF), or again for every question (Self-Refine)?

Question i has its own target t_i = common + own_i. The generator draws from N(mu, sigma^2 I) and cannot read own_i from
the question; its weights are mu. Training is REINFORCE on the score (the policy gradient that RLHF's PPO refines;
Ouyang et al., 2022, arXiv:2203.02155). Self-Refine leaves mu as it is and takes three rounds for each question.
"""

from __future__ import annotations

import torch
from from_scratch import QuadraticScorer, reflect_and_edit
from torch import Tensor

from experiments.table import Table, mean

DIM, COMMON, OWN, SIGMA = 8, 2.0, 0.5, 0.5
STEPS, BATCH, RATE = 300, 64, 0.02
QUESTIONS, ROUNDS, STEP_SIZE = 2000, 3, 0.25


def tables() -> list[Table]:
    """Scored attempts before the first question, for each question, and the score that they buy."""
    torch.manual_seed(0)
    untrained_D, trained_D = torch.zeros(DIM), train()
    rows = []
    for label, mu_D, attempts in (
        ("as it is", untrained_D, 0),
        ("Self-Refine, 3 rounds", untrained_D, 0),
        ("trained", trained_D, STEPS * BATCH),
        ("trained, then 3 rounds", trained_D, STEPS * BATCH),
    ):
        rounds = ROUNDS if "3 rounds" in label else 0
        first_Q, kept_Q = serve(mu_D, rounds)
        rows.append([label, str(attempts), str(1 + rounds), mean(first_Q), mean(kept_Q)])
    columns = ["generator", "attempts to train", "attempts a question", "first attempt", "answer given"]
    return [Table("training", columns, rows)]


def questions(count: int) -> QuadraticScorer:
    """``count`` questions, as one scorer with a target for each."""
    return QuadraticScorer(COMMON + OWN * torch.randn(count, DIM))


def train() -> Tensor:
    """REINFORCE: mu moves along mean_i (score_i - mean score) * d log N(x_i; mu, sigma^2)/d mu."""
    mu_D = torch.zeros(DIM)
    for _ in range(STEPS):
        drawn_BD = mu_D + SIGMA * torch.randn(BATCH, DIM)
        scores_B = questions(BATCH).score(drawn_BD)
        advantages_B = scores_B - scores_B.mean()
        grad_log_prob_BD = (drawn_BD - mu_D) / SIGMA**2
        mu_D = mu_D + RATE * (advantages_B[:, None] * grad_log_prob_BD).mean(dim=0)
    return mu_D


def serve(mu_D: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """Scores (Q,) of the first attempts at new questions, and of the best of each question's attempts."""
    torch.manual_seed(1)
    scorer = questions(QUESTIONS)
    latest_QD = mu_D + SIGMA * torch.randn(QUESTIONS, DIM)
    first_Q = best_Q = scorer.score(latest_QD)
    for _ in range(rounds):
        latest_QD = reflect_and_edit(latest_QD, scorer, STEP_SIZE)
        best_Q = best_Q.maximum(scorer.score(latest_QD))
    return first_Q, best_Q
