"""The driver without a language model: a search over typed recipes by successive halving, then the winner in full.

Short looks, at the usual recipe with several learning rates and at recipes that cover the space, are judged by the
success of their own training episodes, which costs no question to dev. The better third goes on from where it stopped,
three times as far, until one is left; that one is trained for the rest of the time, and its learning rate is changed
when its score says so (Jamieson and Talwalkar 2016, arXiv:1502.07943, for the halving). Recipes after the first look
are drawn by Optuna's tree-structured Parzen estimator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from statistics import fmean
from typing import Any

from agents.common.space import LogReal, Recipe, Space, in_words
from agents.rdagent.drivers.base import Situation
from agents.rdagent.drivers.draws import drawn_by_optuna
from agents.rdagent.drivers.pace import START_SECONDS, Pace
from agents.rdagent.drivers.trials import base_score, looks_of, recipe_of, score_of, stages_of
from agents.rdagent.records import Proposal, Trial
from astune.refine.loop_state import Usage

#: One survivor of so many; the others' training goes on so many times as far.
ETA = 3
#: Of the time that is left: for the first look, and for a further rung, which has to leave enough for the winner.
LOOK_SHARE, RUNG_SHARE = 0.25, 0.35
#: Looks at once; with more than this many, the second half is drawn in the light of the first.
MIN_LOOKS, MAX_LOOKS, LOOKS_OF_ONE_ROUND = 2, 27, 9
#: Where in the range of learning rates the usual recipe is looked at.
_USUAL_AT = (0.625, 0.5, 0.75)
_FIRST_REASON = "Nothing is known yet: the usual recipe at several learning rates first, then the space, evenly."
#: A piece of the winner's training, in seconds and as a share of what is left.
MIN_PIECE_SECONDS, PIECE_SHARE = 10.0, 0.5
#: A further look, where nothing has moved: so many rates between two, at these shares of the way; and how often.
_BETWEEN, _MAX_LOOK_ROUNDS = (0.2, 0.5, 0.8), 2
#: Factor of the learning rate for smaller steps.
SMALLER = 1 / 3
#: Steps without a gain that are a plateau.
_PLATEAU_STEPS = 10
#: Above the base by so much, a training has worked, and a plateau asks for smaller steps; below, for larger ones.
_RISEN = 0.2
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
        between: learning rates that a further look lies between; None leaves that to Optuna.
    """

    phase: str
    reason: str
    trials: Sequence[int] = ()
    factor: float = 1.0
    between: tuple[float, float] | None = None


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
        phase = trial.proposal.recipe["phase"]
        if phase == "train":
            return self._after_training(situation, trial)
        if phase == "look":
            if (further := self._further_look(situation, trial)) is not None:
                return further
            field = looks_of(situation.trials)
        else:
            field = [one for one in situation.trials if one.round == trial.round]
        return self._halving(situation, [one for one in field if one.score is not None])

    def _further_look(self, situation: Situation, trial: Trial) -> Decision | None:
        """Another look, where the first was only half of it, or where nothing has moved yet."""
        if trial.proposal.recipe["again"]:
            return Decision("look", "The first look covered the space evenly; a second one goes where it was good.")
        looks = looks_of(situation.trials)
        best = max(score_of(one) for one in looks)
        base = base_score(situation.trials)
        rounds = len({one.round for one in looks})
        if base is None or best >= base + self.space.noise(base) or rounds > _MAX_LOOK_ROUNDS:
            return None
        low, high = self._bracket(situation)
        words = (
            f"No recipe gained on the base's {base:.2f}. Rates up to {low:g} hold and those from {high:g} diverge: the "
            "good ones should lie between."
        )
        return Decision("look", words, between=(low, high))

    def _halving(self, situation: Situation, field: Sequence[Trial]) -> Decision:
        """The better third goes on, unless one is ahead by more than noise or there is no time for several."""
        ranked = sorted(field, key=lambda one: (-score_of(one), -self._rate(one)))
        keep = ranked[: max(1, math.ceil(len(ranked) / ETA))]
        while len(keep) > 1 and self._rung_seconds(situation, keep) > RUNG_SHARE * situation.deadline.seconds_left:
            keep.pop()
        lead = score_of(ranked[0]) - (score_of(keep[1]) if len(keep) > 1 else -math.inf)
        if lead <= self.space.noise(score_of(ranked[0])):
            words = f"Of {len(ranked)} recipes the best {len(keep)} by training score go on, {ETA} times as far."
            return Decision("rung", words, [one.number for one in keep])
        first = ranked[0]
        words = f"Of {len(ranked)} recipes number {first.number} leads with a training score of {score_of(first):.2f}."
        if not self.space.decays and self._has_risen(situation, first):
            words += " What rises fastest takes steps too large to end with: on with smaller ones."
            return Decision("train", words, [first.number], SMALLER)
        return Decision("train", words, [first.number])

    def _after_training(self, situation: Situation, trial: Trial) -> Decision:
        """Goes on, or goes back to the best and changes the learning rate."""
        best = situation.best or trial
        score, noise = score_of(trial), self.space.noise(score_of(best))
        if score < score_of(best) - noise:
            words = f"The score fell from {score_of(best):.2f} to {score:.2f}: the learning rate is too high by now."
            return Decision("train", words, [best.number], self._untried(situation, best, (SMALLER, 1 / 10, 1 / 30)))
        base = base_score(situation.trials)
        if base is not None and score < base + self.space.noise(base):
            _, high = self._bracket(situation)
            factor = max(1.5, math.sqrt(high / self._rate(trial)))
            return Decision("train", f"The score has hardly moved from the base's {base:.2f}.", [trial.number], factor)
        gain = score - score_of(self._parent(situation, trial) or trial)
        long_enough = trial.proposal.recipe["steps"] >= _PLATEAU_STEPS and trial.proposal.parent
        if long_enough and gain < noise / 4 and score < self.space.ceiling:
            has_risen = self._has_risen(situation, trial)
            factor = self._untried(situation, trial, (SMALLER, 2.0) if has_risen else (2.0, SMALLER))
            words = f"The score stays at {score:.2f}: another learning rate may get further."
            return Decision("train", words, [trial.number], factor)
        return Decision("train", f"The score is {score:.2f}, and going on costs nothing else.", [trial.number])

    def _has_risen(self, situation: Situation, trial: Trial) -> bool:
        """Whether a training has worked."""
        base = base_score(situation.trials)
        return base is None or score_of(trial) > base + _RISEN

    def _untried(self, situation: Situation, origin: Trial, factors: Sequence[float]) -> float:
        """The first factor that has not been tried from this trial, nor seen to diverge."""
        rate = self._rate(origin)
        tried = {self._rate(one) for one in situation.trials if one.proposal.parent == origin.number}
        _, too_high = self._bracket(situation)
        for factor in factors:
            value = rate * factor
            if value < too_high and all(abs(math.log(value / other)) > 0.1 for other in tried):
                return factor
        return factors[-1]

    def _highest_unmoved(self, situation: Situation) -> Trial | None:
        """The look that held at the highest rate, as long as no training has gained on the base."""
        looks = looks_of(situation.trials)
        base = base_score(situation.trials)
        held = [one for one in looks if one.score is not None]
        is_look = bool(situation.trials) and situation.trials[-1].proposal.recipe["phase"] == "look"
        if not held or not is_look or base is None or max(map(score_of, held)) > base + self.space.noise(base):
            return None
        return max(held, key=self._rate)

    def _bracket(self, situation: Situation) -> tuple[float, float]:
        """The highest learning rate that held and the lowest that diverged; the space's own ends where none did."""
        rate = self.space.dimensions[0]
        assert isinstance(rate, LogReal)
        diverged = [self._rate(one) for one in situation.trials if one.outcome is not None and one.outcome.diverged]
        high = min(diverged, default=rate.high)
        held = [self._rate(one) for one in situation.trials if one.score is not None and self._rate(one) < high]
        return max(held, default=rate.low), high

    # --- the experiments of it ----------------------------------------------------------------------------------

    def propose(self, situation: Situation) -> list[Proposal]:
        """The next round's experiments."""
        decision = Decision(**situation.reflection) if situation.reflection else None
        if decision is None and situation.best is None and situation.trials:
            decision = Decision(
                "look", "Every recipe diverged: lower rates are tried.", between=self._bracket(situation)
            )
        if decision is None and (held := self._highest_unmoved(situation)) is not None:
            words = (
                "Higher rates diverge, and nothing has moved yet: the highest rate that holds is trained for longer."
            )
            decision = Decision("train", words, [held.number])
        if decision is None and situation.best is not None:
            words = "The last round came to nothing: back to the best so far, with a lower learning rate."
            factor = self._untried(situation, situation.best, (SMALLER, 1 / 10, 1 / 30))
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
        pace = self._pace(situation)
        typical = fmean(pace.look_seconds(self.space.draw(rng)) for _ in range(20))
        count = max(MIN_LOOKS, min(MAX_LOOKS, int(LOOK_SHARE * left / typical)))
        looked = looks_of(situation.trials)
        if decision is not None and decision.between is not None:
            return self._looks_between(situation, decision, decision.between)
        again = not looked and count > LOOKS_OF_ONE_ROUND
        count = math.ceil(count / 2) if again or looked else count
        recipes = self._drawn(looked, count, situation.round) if looked else self._first_looks(count, rng)
        reason = decision.reason if decision is not None else _FIRST_REASON
        seconds = LOOK_SHARE * left / (2 if again or looked else 1)
        each = seconds / count if count == MIN_LOOKS else math.inf  # the fewest that there are have to fit
        return [self._look(situation, recipe, reason, seconds, again, each) for recipe in recipes]

    def _first_looks(self, count: int, rng: Random) -> list[Recipe]:
        """The usual recipe at several learning rates, which decide more than all else, and then the whole space."""
        usual = [self.space.usual_at(share) for share in _USUAL_AT[:count]]
        return [*usual, *self.space.spread(count - len(usual), rng)]

    def _looks_between(self, situation: Situation, decision: Decision, between: tuple[float, float]) -> list[Proposal]:
        """The recipe that held at the highest rate, at higher ones."""
        held = [one for one in looks_of(situation.trials) if one.score is not None]
        recipe = recipe_of(max(held, key=self._rate)) if held else self.space.draw(Random(f"between:{self.seed}"))
        low, high = between
        name = self.space.dimensions[0].name
        rates = [float(f"{low * (high / low) ** share:.3g}") for share in _BETWEEN]
        seconds = LOOK_SHARE * situation.deadline.seconds_left
        return [self._look(situation, {**recipe, name: rate}, decision.reason, seconds, False) for rate in rates]

    def _look(
        self,
        situation: Situation,
        recipe: Recipe,
        reason: str,
        round_seconds: float,
        again: bool,
        seconds: float = math.inf,
    ) -> Proposal:
        pace = self._pace(situation)
        steps = pace.look_steps(recipe, seconds)
        return Proposal(
            hypothesis=f"A short training with {in_words(recipe)} shows whether the recipe is worth more.",
            reason=reason,
            recipe={"phase": "look", "values": dict(recipe), "steps": steps, "again": again},
            stages=self.space.more((), recipe, steps),
            seconds=PATIENCE * pace.look_seconds(recipe) + 3.0,
            round_seconds=round_seconds,
        )

    def _rung(self, situation: Situation, origin: Trial, decision: Decision, round_seconds: float) -> Proposal:
        steps = _rung_steps(origin)
        return self._further(situation, origin, decision, "rung", steps, round_seconds)

    def _training(self, situation: Situation, origin: Trial, decision: Decision) -> Proposal:
        left = situation.deadline.seconds_left
        seconds = max(MIN_PIECE_SECONDS, PIECE_SHARE * left)
        if left - seconds < 1.5 * MIN_PIECE_SECONDS:
            seconds = left
            if decision.factor == 1 and not self.space.decays and self._has_risen(situation, origin):
                words = f"{decision.reason} These are the last steps, and smaller ones end closer to the optimum."
                decision = replace(decision, reason=words, factor=SMALLER)
        steps = max(1, int((seconds - START_SECONDS) / self._pace(situation).seconds_per_step(origin)))
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
        recipe = self.space.with_rate(recipe_of(origin), decision.factor)
        rate = self.space.dimensions[0].name
        change = "" if decision.factor == 1 else f" with {rate} {recipe[rate]:g} instead of {recipe_of(origin)[rate]:g}"
        expected = self._pace(situation).seconds(origin, steps)
        return Proposal(
            hypothesis=f"Training number {origin.number} for {steps} more steps{change} raises its score.",
            reason=decision.reason,
            recipe={"phase": phase, "values": dict(recipe), "steps": steps, "from": origin.number},
            stages=self.space.more(stages_of(origin), recipe, steps),
            parent=origin.number,
            seconds=seconds if seconds is not None else PATIENCE * expected + 3.0,
            round_seconds=round_seconds,
        )

    # --- reading trials -----------------------------------------------------------------------------------------

    def _drawn(self, looked: Sequence[Trial], count: int, round_number: int) -> list[Recipe]:
        """``count`` recipes in the light of the looks so far; what failed counts as a score of 0."""
        known = [(recipe_of(trial), trial.score or 0.0) for trial in looked]
        return drawn_by_optuna(self.space, known, count, self.seed * 1009 + round_number)

    def _pace(self, situation: Situation) -> Pace:
        return Pace(self.space, situation.trials)

    def _rung_seconds(self, situation: Situation, origins: Sequence[Trial]) -> float:
        pace = self._pace(situation)
        return sum(pace.seconds(one, _rung_steps(one)) for one in origins)

    def _rate(self, trial: Trial) -> float:
        return float(recipe_of(trial)[self.space.dimensions[0].name])

    @staticmethod
    def _trial(situation: Situation, number: int) -> Trial:
        return situation.trials[number - 1]

    def _parent(self, situation: Situation, trial: Trial) -> Trial | None:
        return self._trial(situation, trial.proposal.parent) if trial.proposal.parent else None


def _rung_steps(origin: Trial) -> int:
    """So many more that the chain is ``ETA`` times as long as it is."""
    return (ETA - 1) * sum(int(stage["steps"]) for stage in stages_of(origin))
