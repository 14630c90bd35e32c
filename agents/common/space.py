"""The space of recipes that ``random_search`` draws from and ``rdagent`` searches: the same one, typed, and wide.

It is stated before anything is run, covers four orders of magnitude of the learning rate, and holds most of the ways in
which a recipe goes wrong. The sampling temperature is not in it: training stays on policy at temperature 1, so that
the success of training episodes can be compared between recipes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

Value = float | int | str
Recipe = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class LogReal:
    """A positive number whose logarithm is uniform."""

    name: str
    low: float
    high: float

    def at(self, share: float) -> float:
        """The number that ``share`` (0..1) of all draws lie below, rounded to three digits."""
        return float(f"{self.low * (self.high / self.low) ** share:.3g}")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values, all equally likely."""

    name: str
    options: tuple[Value, ...]

    def at(self, share: float) -> Value:
        """The option that ``share`` (0..1) falls on."""
        return self.options[min(int(share * len(self.options)), len(self.options) - 1)]


Dimension = LogReal | Choice


@dataclass(frozen=True, slots=True)
class Space:
    """Dimensions, and how a point of them is trained.

    Attributes:
        dimensions: the first is the learning rate.
        usual: what one takes of the others where nothing is known: the trainer's own defaults, or common practice.
        stage: a recipe and a number of steps as a stage of training.
        full_steps: steps of a whole training of a recipe.
        seconds: what a start, and so many steps of a recipe, take on a small machine; a first guess.
        noise: differences from a training score that say nothing.
        ceiling: training score above which there is nothing left to gain.
        first_look: share of those that tells a hopeless recipe from one worth more.
        decays: stages lower their learning rate towards their end by themselves.
        resumes: a stage that is given more steps goes on from its last checkpoint; else a further stage follows it.
    """

    dimensions: tuple[Dimension, ...]
    usual: Recipe
    stage: Callable[[Recipe, int], dict[str, Any]]
    full_steps: Callable[[Recipe], int]
    seconds: Callable[[Recipe, int], float]
    noise: Callable[[float], float]
    ceiling: float
    first_look: float = 0.04
    decays: bool = False
    resumes: bool = True

    def more(self, stages: Sequence[Mapping[str, Any]], recipe: Recipe, steps: int) -> list[dict[str, Any]]:
        """The chain ``stages`` with ``steps`` more steps of ``recipe``."""
        chain = [dict(stage) for stage in stages]
        if chain and self.resumes and chain[-1] == self.stage(recipe, chain[-1]["steps"]):
            chain[-1]["steps"] += steps
            return chain
        return [*chain, self.stage(recipe, steps) | ({} if self.resumes else {"start": _steps(chain)})]

    def draw(self, rng: Random) -> Recipe:
        """A recipe at random."""
        return {dimension.name: dimension.at(rng.random()) for dimension in self.dimensions}

    def usual_at(self, share: float) -> Recipe:
        """The usual recipe, with the learning rate that ``share`` (0..1) of all draws lie below."""
        rate = self.dimensions[0]
        return {rate.name: rate.at(share), **self.usual}

    def spread(self, count: int, rng: Random) -> list[Recipe]:
        """``count`` recipes that cover each dimension evenly (a Latin hypercube), best covered in the middle first."""
        columns = {dimension.name: self._column(dimension, count, rng) for dimension in self.dimensions}
        recipes = [{name: column[index] for name, column in columns.items()} for index in range(count)]
        rate = self.dimensions[0]
        assert isinstance(rate, LogReal)
        middle = math.log(rate.at(0.5))
        return sorted(recipes, key=lambda recipe: abs(math.log(float(recipe[rate.name])) - middle))

    @staticmethod
    def _column(dimension: Dimension, count: int, rng: Random) -> list[Value]:
        cells = list(range(count))
        rng.shuffle(cells)
        return [dimension.at((cell + rng.random()) / count) for cell in cells]

    def with_rate(self, recipe: Recipe, factor: float) -> Recipe:
        """The recipe with its learning rate multiplied, within the space."""
        rate = self.dimensions[0]
        assert isinstance(rate, LogReal)
        value = min(rate.high, max(rate.low, float(recipe[rate.name]) * factor))
        return {**recipe, rate.name: float(f"{value:.3g}")}


def _steps(chain: Sequence[Mapping[str, Any]]) -> int:
    return sum(int(stage["steps"]) for stage in chain)


def space_of(details: Mapping[str, Any], recipe_steps: int = 100) -> Space:
    """The space for a scenario, by what may be known of it.

    Where the base model solves something and answers are checked as the trainer's judge checks them, recipes are of
    reinforcement learning; elsewhere of supervised training on the worked solutions.
    """
    learns_from_reward = details["checker"] == "math" and float(details["baseline_score"]) > 0
    return _rl_space(details, recipe_steps) if learns_from_reward else _supervised_space(details)


# --- reinforcement learning -------------------------------------------------------------------------------------

_EPISODES_OF_THE_DEFAULT = 64
_USUAL_RL: Recipe = {
    "algorithm": "grpo",
    "group_size": 8,
    "episodes_per_step": _EPISODES_OF_THE_DEFAULT,
    "beta": 0.0,
    "penalty": 0.2,
    "updates_per_batch": 1,
}
_SCORED_EPISODES = 128


def _rl_space(details: Mapping[str, Any], recipe_steps: int) -> Space:
    episode, generation = details["episode"], details["generation"]
    workflow = episode["workflow"] or "astune.workflow.direct->DirectAnswer"
    fixed = [
        f"rollout.workflow={workflow}",
        f"rollout.max_tokens={generation['max_tokens']}",
        f"rollout.max_turns={episode['max_turns']}",
    ]

    def stage(recipe: Recipe, steps: int) -> dict[str, Any]:
        return {"method": "rl", "steps": steps, "overrides": [*fixed, *rl_overrides(recipe)]}

    def full_steps(recipe: Recipe) -> int:
        return max(1, round(recipe_steps * _EPISODES_OF_THE_DEFAULT / int(recipe["episodes_per_step"])))

    return Space(
        (
            LogReal("learning_rate", 1e-6, 1e-2),
            Choice("algorithm", ("grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo")),
            Choice("group_size", (4, 8, 16)),
            Choice("episodes_per_step", (32, 64)),
            Choice("beta", (0.0, 0.001, 0.01, 0.1)),
            Choice("penalty", (0.0, 0.1, 0.2, 0.4)),
            Choice("updates_per_batch", (1, 2, 4)),
        ),
        _USUAL_RL,
        stage,
        full_steps,
        seconds=lambda recipe, steps: 1.6 + steps * 1.1 * int(recipe["episodes_per_step"]) / _EPISODES_OF_THE_DEFAULT,
        noise=_binomial_noise,
        ceiling=0.985,
    )


def _binomial_noise(score: float) -> float:
    """Two standard errors of the difference between two averages of so many episodes."""
    rate = min(0.99, max(0.01, score))
    return 2 * math.sqrt(2 * rate * (1 - rate) / _SCORED_EPISODES)


def rl_overrides(recipe: Recipe) -> list[str]:
    """A recipe as overrides of the trainer's configuration."""
    habits = ", ".join(f"{habit}: {recipe['penalty']}" for habit in ("no_print", "premature_answer", "malformed_call"))
    return [
        f"trainer.learning_rate={recipe['learning_rate']}",
        f"trainer.algorithm={recipe['algorithm']}",
        f"trainer.group_size={recipe['group_size']}",
        f"trainer.prompts_per_step={max(1, int(recipe['episodes_per_step']) // int(recipe['group_size']))}",
        f"trainer.beta={recipe['beta']}",
        f"trainer.updates_per_batch={recipe['updates_per_batch']}",
        f"task_judge.arguments.penalties={{{habits}}}",
    ]


# --- supervised training ----------------------------------------------------------------------------------------

_EXAMPLES_OF_A_FULL_TRAINING = 40_000


def _supervised_space(details: Mapping[str, Any]) -> Space:
    prompt = {"system": details["prompt"]["system"], "user": details["prompt"]["user"]}

    def stage(recipe: Recipe, steps: int) -> dict[str, Any]:
        return {"method": "supervised", "steps": steps, **recipe, **prompt}

    def full_steps(recipe: Recipe) -> int:
        return max(1, _EXAMPLES_OF_A_FULL_TRAINING // int(recipe["batch"]))

    return Space(
        (
            LogReal("learning_rate", 1e-5, 1e-1),
            Choice("optimizer", ("adamw", "muon")),
            Choice("batch", (8, 16, 32, 64)),
            Choice("decay", (0.0, 0.3, 1.0)),
        ),
        {"optimizer": "adamw", "batch": 32, "decay": 1.0},
        stage,
        full_steps,
        seconds=lambda recipe, steps: 3.0 + steps * (0.02 + 0.004 * int(recipe["batch"])),
        noise=lambda score: 0.01,
        ceiling=0.995,
        decays=True,
        resumes=False,
    )


def in_words(recipe: Recipe) -> str:
    """A recipe in one line, for hypotheses and logs."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in recipe.items()
    )


def as_recipe(values: Mapping[str, Any], dimensions: Sequence[Dimension]) -> Recipe:
    """The values of a record as a recipe of the space.

    Raises:
        KeyError: one is missing.
    """
    return {dimension.name: values[dimension.name] for dimension in dimensions}
