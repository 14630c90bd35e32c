"""How long training takes here, by a first guess and by what was measured since."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from agents.common.space import Recipe, Space
from agents.rdagent.drivers.trials import looks_of, recipe_of, stages_of
from agents.rdagent.records import Trial

#: What a start takes, seconds.
START_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Pace:
    """The machine's pace as the trials so far show it."""

    space: Space
    trials: Sequence[Trial]

    def look_steps(self, recipe: Recipe, seconds: float = math.inf) -> int:
        """Steps of a first look, as far as they fit into ``seconds``."""
        steps = max(2, round(self.space.first_look * self.space.full_steps(recipe)))
        start, last = self.space.seconds(recipe, 0), self.space.seconds(recipe, steps)
        share = (seconds / self._slowness() - start) / (last - start)
        return steps if share >= 1 else max(2, int(share * steps))

    def look_seconds(self, recipe: Recipe) -> float:
        """Seconds of a first look."""
        return self.space.seconds(recipe, self.look_steps(recipe)) * self._slowness()

    def seconds_per_step(self, origin: Trial) -> float:
        """Seconds of a further step of a trial."""
        known = origin.outcome.seconds_per_step if origin.outcome is not None else None
        recipe = recipe_of(origin)
        guess = (self.space.seconds(recipe, 11) - self.space.seconds(recipe, 1)) / 10 * self._slowness()
        return max(1e-3, known if known is not None else guess)

    def seconds(self, origin: Trial, steps: int) -> float:
        """Seconds that so many further steps of a trial take, with their start."""
        return START_SECONDS + steps * self.seconds_per_step(origin)

    def _slowness(self) -> float:
        """How much slower than the first guess this machine is."""
        ratios = [
            one.outcome.seconds
            / self.space.seconds(recipe_of(one), sum(int(stage["steps"]) for stage in stages_of(one)))
            for one in looks_of(self.trials)
            if one.outcome is not None and one.outcome.stages
        ]
        return median(ratios) if ratios else 1.0
