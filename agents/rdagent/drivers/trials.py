"""Reads the search's own trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from agents.common.space import Recipe
from agents.rdagent.records import Trial


def looks_of(trials: Sequence[Trial]) -> list[Trial]:
    """The looks that have ended."""
    return [one for one in trials if one.proposal.recipe["phase"] == "look" and one.outcome is not None]


def base_score(trials: Sequence[Trial]) -> float | None:
    """The base model's training score: what the first step of each look found before it changed anything."""
    found = [one.outcome for one in looks_of(trials) if one.outcome is not None and one.outcome.base_first]
    return fmean(outcome.history[0] for outcome in found) if found else None


def recipe_of(trial: Trial) -> Recipe:
    """The trial's point of the space."""
    values: Recipe = trial.proposal.recipe["values"]
    return values


def score_of(trial: Trial) -> float:
    """The trial's score; minus infinity without one."""
    return -math.inf if trial.score is None else trial.score


def stages_of(trial: Trial) -> Sequence[Mapping[str, Any]]:
    """What was trained of the trial's chain, which may be less than was asked for."""
    return trial.outcome.stages if trial.outcome is not None else ()
