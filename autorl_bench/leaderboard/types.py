"""What the leaderboard reads (results of runs) and what it says (estimates with intervals)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from astune.tools.types import SandboxLevel
from autorl_bench.types import Evaluation, Outcome

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval, and how many seeds and items it rests on.

    With one seed the interval covers the choice of items only: what another seed would have given is unknown.
    """

    mean: float
    low: float
    high: float
    seeds: int
    items: int

    @property
    def decided(self) -> int:
        """1 when the whole interval is above 0, -1 when it is below, else 0."""
        return int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Scores in 0..1 of one test draw, item by item: the submission's and, on the same items, the base model's.

    An item that could not be graded counts as not solved, as it does in the accuracy.

    Raises:
        ValueError: no items, an item twice, different lengths, or a score outside 0..1.
    """

    items: tuple[str, ...]
    scores: tuple[float, ...]
    baseline: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.items:
            raise ValueError("an evaluation needs at least one item")
        if len(set(self.items)) != len(self.items):
            raise ValueError("an evaluation names an item twice")
        if not len(self.items) == len(self.scores) == len(self.baseline):
            counts = f"{len(self.items)} items, {len(self.scores)} scores, {len(self.baseline)} baseline scores"
            raise ValueError(f"an evaluation needs one score and one baseline score an item, not {counts}")
        if not all(0 <= score <= 1 for score in (*self.scores, *self.baseline)):
            raise ValueError("an item's score must lie in 0..1")

    @classmethod
    def of(cls, submission: Evaluation, baseline: Evaluation) -> Evaluated:
        """Pairs two evaluations of the same items, in whatever order each has them.

        Raises:
            ValueError: the two are not of the same items.
        """
        solved = {result.item_id: float(result.correct is True) for result in baseline.results}
        items = tuple(result.item_id for result in submission.results)
        if set(items) != set(solved):
            raise ValueError("the submission and the baseline were evaluated on different items")
        scores = tuple(float(result.correct is True) for result in submission.results)
        return cls(items, scores, tuple(solved[item] for item in items))

    @property
    def gains(self) -> Floats:
        """Improvement over the baseline in percentage points, one an item."""
        return np.asarray(100 * (np.array(self.scores) - np.array(self.baseline)), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run used: seconds of the wall clock and of its processors, bytes at the peak, tokens of its own LLM."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class RunResult:
    """How one run of one agent ended.

    Attributes:
        attempt: Counts the runs of one agent, scenario and seed in the order of their starts.
        evaluated: The final evaluation on the hidden test; there exactly when ``outcome`` is scored.
        flags: Codes of the integrity checks that the run failed; a flagged run is ranked apart.
        progress: (spent seconds, dev score in percent) of each answered query, in any order.
        dev_baseline: The base model's dev score in percent, where it was measured: progress is seen against it.
        isolation: The level at which the agent's own code ran; None when nobody recorded it.

    Raises:
        ValueError: an evaluation without the outcome "scored", or the reverse; progress that is not finite.
    """

    agent: str
    scenario: str
    seed: int
    outcome: Outcome
    evaluated: Evaluated | None = None
    attempt: int = 0
    flags: tuple[str, ...] = ()
    progress: tuple[tuple[float, float], ...] = ()
    dev_baseline: float | None = None
    cost: Cost = field(default_factory=Cost)
    isolation: SandboxLevel | None = None

    def __post_init__(self) -> None:
        if (self.evaluated is not None) != (self.outcome == Outcome.SCORED):
            raise ValueError(f"{self.agent}, seed {self.seed}: exactly a scored run has an evaluation")
        if not all(
            math.isfinite(number) for point in (*self.progress, (self.dev_baseline or 0.0,)) for number in point
        ):
            raise ValueError(f"{self.agent}, seed {self.seed}: progress must be finite numbers")
