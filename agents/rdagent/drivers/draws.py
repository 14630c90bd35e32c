"""Recipes that Optuna draws in the light of those that were looked at."""

from __future__ import annotations

from collections.abc import Sequence

from agents.common.space import LogReal, Recipe, Space

#: Recipes that have to be known before the estimator is asked for more than chance.
_STARTING = 3


def drawn_by_optuna(space: Space, known: Sequence[tuple[Recipe, float]], count: int, seed: int) -> list[Recipe]:
    """``count`` recipes by a tree-structured Parzen estimator, given recipes and their scores."""
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dimensions: dict[str, BaseDistribution] = {
        dimension.name: FloatDistribution(dimension.low, dimension.high, log=True)
        if isinstance(dimension, LogReal)
        else CategoricalDistribution(dimension.options)
        for dimension in space.dimensions
    }
    sampler = optuna.samplers.TPESampler(n_startup_trials=_STARTING, constant_liar=True, seed=seed % 2**32)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for recipe, score in known:
        study.add_trial(optuna.trial.create_trial(params=dict(recipe), distributions=dimensions, value=score))
    drawn = [study.ask(dimensions).params for _ in range(count)]
    rate = space.dimensions[0].name
    return [params | {rate: float(f"{params[rate]:.3g}")} for params in drawn]
