"""The driver without a language model: a search over typed recipes by successive halving, then the winner in full.

Short looks at recipes that cover the space, judged by the success of their own training episodes, which costs no
question to dev; the better third goes on from where it stopped, three times as far, until one is left; that one is
trained for the rest of the time, and its learning rate is changed when its score says so (Jamieson and Talwalkar 2016,
arXiv:1502.07943, for the halving). Recipes after the first look are drawn by Optuna's tree-structured Parzen estimator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from statistics import fmean, median
from typing import Any

from agents.common.space import LogReal, Recipe, Space, in_words
from agents.rdagent.drivers.base import Situation
from agents.rdagent.records import Proposal, Trial
from astune.refine.loop_state import Usage

#: One survivor of so many; the others' training goes on so many times as far.
ETA = 3
#: Of the time that is left: for the first look, and for a further rung, which has to leave enough for the winner.
LOOK_SHARE, RUNG_SHARE = 0.36, 0.35
#: Looks at once; with more than this many, the second half is drawn in the light of the first.
MIN_LOOKS, MAX_LOOKS, LOOKS_OF_ONE_ROUND = 3, 27, 9
#: A piece of the winner's training, in seconds and as a share of what is left.
MIN_PIECE_SECONDS, PIECE_SHARE = 10.0, 0.5
#: How far an experiment may exceed what it is expected to take.
PATIENCE = 2.5


@dataclass(frozen=True, slots=True)
class Decision:
    """What the next round does, and why.

    Attributes:
        phase: ``look`` (new recipes), ``rung`` (go on with some), ``train`` (go on with one).
        reason: in words.
        trials: numbers of those that it goes on with.
        factor: by which the learning rate is multiplied.
    """

    phase: str
    reason: str
    trials: Sequence[int] = ()
    factor: float = 1.0


class SearchDriver:
    """See the module."""

    judged_by_dev = False
    warm = True

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.seed = seed

    def usage(self) -> Usage:
        """Nothing: no model is asked."""
        return Usage()

    # --- what to do next ----------------------------------------------------------------------------------------

    def reflect(self, situation: Situation, trial: Trial) -> dict[str, Any]:
        """Decides what follows from the round."""
        return asdict(self.decide(situation, trial))

    def decide(self, situation: Situation, trial: Trial) -> Decision:
        """The next step of the search, given the last round's best trial."""
        if trial.proposal.recipe["phase"] == "train":
            return self._after_training(situation, trial)
        last = [one for one in situation.trials if one.round == trial.round and one.score is not None]
        if trial.proposal.recipe["phase"] == "look":
            if trial.proposal.recipe["again"]:
                return Decision("look", "The first look covered the space evenly; a second one goes where it was good.")
            last = [one for one in situation.trials if one.proposal.recipe["phase"] == "look" and one.score is not None]
        ranked = sorted(last, key=lambda one: -_score(one))
        keep = ranked[: max(1, math.ceil(len(ranked) / ETA))]
        while len(keep) > 1 and self._rung_seconds(situation, keep) > RUNG_SHARE * situation.deadline.seconds_left:
            keep.pop()
        if len(keep) > 1:
            words = f"Of {len(last)} recipes the best {len(keep)} by training score go on, {ETA} times as far."
            return Decision("rung", words, [one.number for one in keep])
        words = (
            f"Of {len(last)} recipes number {ranked[0].number} leads with a training score of {_score(ranked[0]):.2f}."
        )
        return Decision("train", words, [ranked[0].number])

    def _after_training(self, situation: Situation, trial: Trial) -> Decision:
        """Goes on, or goes back to the best and changes the learning rate."""
        best = situation.best or trial
        if _score(trial) < _score(best) - self.space.noise:
            words = (
                f"The score fell from {_score(best):.2f} to {_score(trial):.2f}: the learning rate is too high by now."
            )
            return Decision("train", words, [best.number], self._untried(situation, best, (1 / 3, 1 / 10, 1 / 30)))
        gain = _score(trial) - _score(self._parent(situation, trial) or trial)
        if gain < self.space.noise / 2 and _score(trial) < self.space.ceiling and trial.proposal.parent:
            factor = self._untried(situation, trial, (2.0, 1 / 3))
            words = f"The score stays at {_score(trial):.2f}: another learning rate may get further."
            return Decision("train", words, [trial.number], factor)
        return Decision("train", f"The score is {_score(trial):.2f}, and going on costs nothing else.", [trial.number])

    def _untried(self, situation: Situation, origin: Trial, factors: Sequence[float]) -> float:
        """The first factor that has not been tried from this trial, nor seen to diverge."""
        rate = self._rate(origin)
        tried = {self._rate(one) for one in situation.trials if one.proposal.parent == origin.number}
        failed = [self._rate(one) for one in situation.trials if one.outcome is not None and one.score is None]
        too_high = min(failed, default=math.inf)
        for factor in factors:
            value = rate * factor
            if value < too_high and all(abs(math.log(value / other)) > 0.1 for other in tried):
                return factor
        return factors[-1]

    # --- the experiments of it ----------------------------------------------------------------------------------

    def propose(self, situation: Situation) -> list[Proposal]:
        """The next round's experiments."""
        decision = Decision(**situation.reflection) if situation.reflection else None
        if decision is None and situation.best is not None and situation.best.number:
            words = "The last round came to nothing: back to the best so far, with a lower learning rate."
            factor = self._untried(situation, situation.best, (1 / 3, 1 / 10, 1 / 30))
            decision = Decision("train", words, [situation.best.number], factor)
        if decision is None or decision.phase == "look":
            return self._looks(situation, decision)
        origins = [self._trial(situation, number) for number in decision.trials]
        if decision.phase == "rung":
            seconds = self._rung_seconds(situation, origins)
            return [self._rung(situation, origin, decision, seconds * 1.3) for origin in origins]
        return [self._training(situation, origins[0], decision)]

    def _looks(self, situation: Situation, decision: Decision | None) -> list[Proposal]:
        left = situation.deadline.seconds_left
        rng = Random(f"looks:{self.seed}:{situation.round}")
        typical = fmean(self._expected(situation, self.space.draw(rng), None) for _ in range(20))
        count = max(MIN_LOOKS, min(MAX_LOOKS, int(LOOK_SHARE * left / typical)))
        looked = [one for one in situation.trials if one.proposal.recipe["phase"] == "look" and one.outcome is not None]
        again = not looked and count > LOOKS_OF_ONE_ROUND
        count = math.ceil(count / 2) if again or looked else count
        recipes = self._drawn(looked, count, situation.round) if looked else self.space.spread(count, rng)
        reason = decision.reason if decision is not None else "Nothing is known yet: the looks cover the space evenly."
        seconds = LOOK_SHARE * left / (2 if again or looked else 1)
        return [self._look(situation, recipe, reason, seconds, again) for recipe in recipes]

    def _look(self, situation: Situation, recipe: Recipe, reason: str, round_seconds: float, again: bool) -> Proposal:
        steps = self._look_steps(recipe)
        return Proposal(
            hypothesis=f"A short training with {in_words(recipe)} shows whether the recipe is worth more.",
            reason=reason,
            recipe={"phase": "look", "values": dict(recipe), "steps": steps, "again": again},
            stages=self.space.more((), recipe, steps),
            seconds=PATIENCE * self._expected(situation, recipe, steps) + 3.0,
            round_seconds=round_seconds,
        )

    def _rung(self, situation: Situation, origin: Trial, decision: Decision, round_seconds: float) -> Proposal:
        steps = self._rung_steps(origin)
        return self._further(situation, origin, decision, "rung", steps, round_seconds)

    def _training(self, situation: Situation, origin: Trial, decision: Decision) -> Proposal:
        left = situation.deadline.seconds_left
        seconds = max(MIN_PIECE_SECONDS, PIECE_SHARE * left)
        if left - seconds < MIN_PIECE_SECONDS:
            seconds = left
        per_step = self._seconds_per_step(situation, origin)
        steps = max(1, int((seconds - 1.5) / per_step))
        return self._further(situation, origin, decision, "train", steps, None, seconds)

    def _further(
        self,
        situation: Situation,
        origin: Trial,
        decision: Decision,
        phase: str,
        steps: int,
        round_seconds: float | None,
        seconds: float | None = None,
    ) -> Proposal:
        recipe = self.space.with_rate(_recipe(origin), decision.factor)
        rate = self.space.dimensions[0].name
        change = "" if decision.factor == 1 else f" with {rate} {recipe[rate]:g} instead of {_recipe(origin)[rate]:g}"
        expected = steps * self._seconds_per_step(situation, origin) + 1.5
        return Proposal(
            hypothesis=f"Training number {origin.number} for {steps} more steps{change} raises its score.",
            reason=decision.reason,
            recipe={"phase": phase, "values": dict(recipe), "steps": steps, "from": origin.number},
            stages=self.space.more(_stages(origin), recipe, steps),
            parent=origin.number,
            seconds=seconds if seconds is not None else PATIENCE * expected + 3.0,
            round_seconds=round_seconds,
        )

    # --- recipes that Optuna draws ------------------------------------------------------------------------------

    def _drawn(self, looked: Sequence[Trial], count: int, round_number: int) -> list[Recipe]:
        """``count`` recipes in the light of the looks so far; what failed counts as a score of 0."""
        import optuna
        from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        space: dict[str, BaseDistribution] = {
            dimension.name: FloatDistribution(dimension.low, dimension.high, log=True)
            if isinstance(dimension, LogReal)
            else CategoricalDistribution(dimension.options)
            for dimension in self.space.dimensions
        }
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=MIN_LOOKS, constant_liar=True, seed=(self.seed * 1009 + round_number) % 2**32
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for trial in looked:
            value = _score(trial) if trial.score is not None else 0.0
            study.add_trial(optuna.trial.create_trial(params=dict(_recipe(trial)), distributions=space, value=value))
        drawn = [study.ask(space).params for _ in range(count)]
        rate = self.space.dimensions[0].name
        return [params | {rate: float(f"{params[rate]:.3g}")} for params in drawn]

    # --- how long things take -----------------------------------------------------------------------------------

    def _look_steps(self, recipe: Recipe) -> int:
        return max(2, round(self.space.first_look * self.space.full_steps(recipe)))

    def _rung_steps(self, origin: Trial) -> int:
        """So many more that the chain is ``ETA`` times as long as it is."""
        return (ETA - 1) * sum(int(stage["steps"]) for stage in _stages(origin))

    def _rung_seconds(self, situation: Situation, origins: Sequence[Trial]) -> float:
        return sum(1.5 + self._rung_steps(one) * self._seconds_per_step(situation, one) for one in origins)

    def _expected(self, situation: Situation, recipe: Recipe, steps: int | None) -> float:
        """Seconds of a look, by what the machine has shown so far."""
        count = self._look_steps(recipe) if steps is None else steps
        return self.space.seconds(recipe, count) * self._pace(situation)

    def _pace(self, situation: Situation) -> float:
        """How much slower than the first guess this machine is."""
        ratios = [
            one.outcome.seconds
            / self.space.seconds(_recipe(one), sum(int(stage["steps"]) for stage in one.outcome.stages))
            for one in situation.trials
            if one.outcome is not None and one.outcome.stages and one.proposal.recipe["phase"] == "look"
        ]
        return median(ratios) if ratios else 1.0

    def _seconds_per_step(self, situation: Situation, origin: Trial) -> float:
        known = origin.outcome.seconds_per_step if origin.outcome is not None else None
        recipe = _recipe(origin)
        guess = (self.space.seconds(recipe, 11) - self.space.seconds(recipe, 1)) / 10 * self._pace(situation)
        return max(1e-3, known if known is not None else guess)

    # --- reading trials -----------------------------------------------------------------------------------------

    def _rate(self, trial: Trial) -> float:
        return float(_recipe(trial)[self.space.dimensions[0].name])

    @staticmethod
    def _trial(situation: Situation, number: int) -> Trial:
        return situation.trials[number - 1]

    def _parent(self, situation: Situation, trial: Trial) -> Trial | None:
        return self._trial(situation, trial.proposal.parent) if trial.proposal.parent else None


def _recipe(trial: Trial) -> Recipe:
    values: Recipe = trial.proposal.recipe["values"]
    return values


def _score(trial: Trial) -> float:
    return -math.inf if trial.score is None else trial.score


def _stages(trial: Trial) -> Sequence[Any]:
    """What was trained of a chain, which may be less than was asked for."""
    return trial.outcome.stages if trial.outcome is not None else ()
