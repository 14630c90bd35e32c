"""Self-Refine from scratch: generate, score, reflect, keep the best (Madaan et al., 2023, arXiv:2303.17651).

        generate(state) --> score(candidate) --> reflect(candidate, score)
               ^                                          |
               |________ candidate for next round ________|
                             (keep best)

The language model is replaced by something that can be computed by hand. An answer is a vector x of D numbers, its
score is -||x - target||^2, and the reflection is one step of gradient ascent on that score. README.md derives every
claim that is made here; test_self_refine.py checks them.

Names end in their shape: K candidates of one round, D numbers each; ``...`` is any batch shape, also none.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

MASKED = float("-inf")  # the score of what can't be chosen: below every score that a candidate can have


class QuadraticScorer:
    """score(x) = -||x - target||^2: concave, at most 0, and 0 only at the target."""

    def __init__(self, target_D: Tensor):
        self.target_D = target_D

    def score(self, candidates_xD: Tensor) -> Tensor:
        """One score for each candidate: (..., D) -> (...)."""
        return -(candidates_xD - self.target_D).square().sum(dim=-1)

    def gradient(self, candidates_xD: Tensor) -> Tensor:
        """Where the score rises fastest, and how fast: (..., D) -> (..., D).

        d/dx_i of -sum_j (x_j - t_j)^2 is -2 (x_i - t_i): only the term j = i contains x_i.
        """
        return -2 * (candidates_xD - self.target_D)


class Generator:
    """Emits candidates: random ones at first, and later what the reflection asks for, give or take some noise.

    A language model that is asked twice to apply the same critique writes two different answers: that is ``noise``.
    With ``noise=0`` it does exactly as it is told, and the derivations of README.md hold to the last digit.
    """

    def __init__(self, dim: int, noise: float = 0.0):
        self.dim = dim
        self.noise = noise

    def generate(self, state_D: Tensor | None = None, count: int = 1) -> Tensor:
        """``count`` candidates (K, D). ``state_D`` is the reflection's proposal; None in the first round."""
        fresh_KD = torch.randn(count, self.dim)
        return fresh_KD if state_D is None else state_D + self.noise * fresh_KD


def reflect_and_edit(candidates_xD: Tensor, scorer: QuadraticScorer, step_size: float) -> Tensor:
    """The candidate for the next round: reflect (what would raise the score?), then edit (go there a step).

    With e = x - target the step is e -> e + eta * (-2 e) = (1 - 2 eta) e: the error keeps its direction and its
    length changes by the factor |1 - 2 eta|, which is below 1 exactly when 0 < eta < 1.
    """
    feedback_xD = scorer.gradient(candidates_xD)
    return candidates_xD + step_size * feedback_xD


def mask_unselectable(scores_K: Tensor, selectable_K: Tensor) -> Tensor:
    """The scores with -inf wherever a candidate must not be chosen, so that argmax can't choose it.

    Masked are the entries that ``selectable_K`` excludes, and scores that are no numbers: -inf is what an overflow
    leaves, and argmax would prefer NaN to every number.
    """
    return scores_K.masked_fill(~(selectable_K & scores_K.isfinite()), MASKED)


def all_selectable(candidates_KD: Tensor) -> Tensor:
    """The rule that excludes nothing: (K, D) -> (K,)."""
    return torch.ones(len(candidates_KD), dtype=torch.bool)


class Refined(NamedTuple):
    """What came of it. ``score_history`` has the score of every round's attempt, the first attempt included."""

    best_candidate: Tensor
    best_score: float
    score_history: list[float]
    initial_score: float

    @property
    def best_so_far(self) -> list[float]:
        """The invariant, round by round: the best score up to each one. It never falls."""
        return list(accumulate(self.score_history, max))


def self_refine(
    generator: Generator,
    scorer: QuadraticScorer,
    *,
    rounds: int = 10,
    step_size: float = 0.25,
    candidates_per_round: int = 1,
    selectable: Callable[[Tensor], Tensor] = all_selectable,
) -> Refined:
    """One first attempt, then ``rounds`` refinements of the latest one; returns the best of all.

    With ``rounds=0`` and N candidates it is best-of-N. ``selectable`` maps candidates (K, D) to booleans (K,).
    A later round without a selectable candidate ends the loop, and what was best stays best.

    Raises:
        ValueError: no candidate of the first round may be chosen, so there is nothing to keep.
    """
    latest_D: Tensor | None = None
    best_D: Tensor | None = None
    best_score = MASKED
    score_history: list[float] = []

    for _ in range(1 + rounds):
        state_D = None if latest_D is None else reflect_and_edit(latest_D, scorer, step_size)
        candidates_KD = generator.generate(state_D, candidates_per_round)
        scores_K = mask_unselectable(scorer.score(candidates_KD), selectable(candidates_KD))
        chosen = int(scores_K.argmax())  # the first of equals
        score = float(scores_K[chosen])
        if score == MASKED:  # all of them are masked
            break
        latest_D = candidates_KD[chosen]
        score_history.append(score)
        if score > best_score:  # keep the best; ">" and not ">=", so that the first of equals stays
            best_D, best_score = latest_D, score

    if best_D is None:
        raise ValueError(f"none of the {candidates_per_round} first candidates is selectable: nothing to refine")
    return Refined(best_D, best_score, score_history, initial_score=score_history[0])
