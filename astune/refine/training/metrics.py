"""What a refined batch or evaluation is reduced to: the numbers of ``metrics.jsonl`` and of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from astune.config.refine import Refine
from astune.refine.training.outcomes import Rate, RefineOutcomes, measure
from astune.refine.training.refined_row import RefinedRow, grade_of
from astune.refine.training.stage import Refined
from astune.trace import Episode, StopReason

#: Resamples behind the interval of a training batch's delta; an evaluation's has the default.
BATCH_RESAMPLES = 500


def outcomes(rows: Sequence[RefinedRow], config: Refine, *, every_row: bool, resamples: int = 2000) -> RefineOutcomes:
    """Accuracies, transitions and rates of the rows; ``every_row`` says that all of them were to be refined."""
    attempts = 1 + config.max_refine_rounds
    counted = [row.outcome(attempts, every_row=every_row, critic=config.use_critique) for row in rows]
    scores = [
        [_score(attempt, config.score_component) for attempt in row.attempts] + [-math.inf] * attempts for row in rows
    ]
    return measure(counted, attempts=attempts, scores=scores, threshold=config.score_threshold, resamples=resamples)


def evaluation_row(rows: Sequence[RefinedRow], config: Refine) -> dict[str, Any]:
    """The outcomes of an evaluation, in which every row was refined, the configured gate's accuracy among them."""
    return _row(outcomes(rows, config, every_row=True), config)


def batch_metrics(refined: Refined, config: Refine) -> dict[str, float]:
    """One training batch's part of ``metrics.jsonl``; what is not known is left out."""
    every_row = config.refined_rows == "all"
    row = _row(outcomes(refined.rows, config, every_row=every_row, resamples=BATCH_RESAMPLES), config)
    row |= {"turns": 1 + config.max_refine_rounds, **_costs(refined)}
    return {f"refine/{name}": float(value) for name, value in row.items() if value is not None}


def _row(found: RefineOutcomes, config: Refine) -> dict[str, Any]:
    rate = _gated(found, config)
    low, high = (None, None) if rate is None else rate.ci95
    gated = {
        "accuracy_gated": None if rate is None else rate.value,
        "accuracy_gated_low": low,
        "accuracy_gated_high": high,
    }
    return found.to_row() | gated


def _gated(found: RefineOutcomes, config: Refine) -> Rate | None:
    """Accuracy under ``refine.gate``."""
    return {"always": found.ungated, "verdict": found.verdict_gated, "score_threshold": found.score_gated}[config.gate]


def _score(attempt: Episode, component: str | None) -> float:
    reward = grade_of(attempt).reward
    if reward is None or attempt.verdict is None:
        return -math.inf
    return reward if component is None else attempt.verdict.components.get(component, -math.inf)


def _costs(refined: Refined) -> dict[str, float]:
    """Counts of what the stage sampled."""
    turns = [turn for episode in refined.episodes for turn in episode.turns]
    roles = [episode.role for episode in refined.episodes]
    return {
        "critiques": roles.count("critique"),
        "attempts": roles.count("refine"),
        "failed": sum(episode.error is not None for episode in refined.episodes),
        "shortened_critiques": sum(row.shortened for row in refined.rows),
        "truncated": sum(turn.stop_reason is StopReason.LENGTH for turn in turns),
        "prompt_tokens": sum(len(turn.prompt_ids) for turn in turns),
        "cached_tokens": sum(turn.cached_tokens for turn in turns),
        "completion_tokens": sum(len(turn.completion_ids) for turn in turns),
    }
