"""What a refinement loop knows: attempts, rounds, what they cost, and the best so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from astune.errors import AstuneError

#: A candidate (a text, a vector, a program) and what the reflector says of one.
C = TypeVar("C")
F = TypeVar("F")
T = TypeVar("T")

#: The score of what must not be chosen. Any finite number would win wherever real scores are lower.
MASKED = -math.inf


class AllInvalidError(AstuneError):
    """No candidate of a round is valid, and no earlier one is there to fall back on."""


class RecordedError(AstuneError):
    """Stands for the exception of a recorded round while it is replayed."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What calls cost: sampled tokens, prompt tokens read, and money in whatever unit the caller counts in."""

    tokens: int = 0
    prompt_tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.tokens + other.tokens, self.prompt_tokens + other.prompt_tokens, self.cost + other.cost)


@dataclass(frozen=True, slots=True)
class Metered(Generic[T]):
    """A candidate with what it cost to make."""

    value: T
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Score:
    """What a scorer says of one candidate. Higher is better; -inf masks the candidate.

    Attributes:
        value: NaN counts as -inf, with a reason.
        feedback: what to do better, in words.
        verdict: whether the scorer calls the candidate correct; None where it does not say.
        reason: why the candidate is masked.
        usage: what scoring cost.
    """

    value: float
    feedback: str | None = None
    verdict: bool | None = None
    reason: str | None = None
    usage: Usage = Usage()

    def __post_init__(self) -> None:
        if math.isnan(self.value):
            object.__setattr__(self, "value", MASKED)
            object.__setattr__(self, "reason", self.reason or "the scorer returned nan")
        elif self.value == MASKED and self.reason is None:
            object.__setattr__(self, "reason", "the scorer masked it")

    @property
    def valid(self) -> bool:
        """Whether the candidate may be chosen."""
        return self.value > MASKED


#: Of a candidate whose round failed before it was scored.
UNSCORED = Score(MASKED, reason="not scored")


@dataclass(frozen=True, slots=True)
class Reflection(Generic[F]):
    """What the reflector makes of an attempt, for the next round to use.

    ``verdict`` says whether it calls the attempt correct; None where it does not say.
    """

    value: F
    verdict: bool | None = None
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Attempt(Generic[C]):
    """One candidate and its score. ``number`` counts from 1 over the whole loop, ``round`` counts rounds."""

    number: int
    round: int
    candidate: C
    score: Score = UNSCORED
    usage: Usage = Usage()


@dataclass(slots=True)
class Round(Generic[C, F]):
    """One round, as far as it got.

    Attributes:
        number: from 1.
        attempts: its candidates, in the order given.
        reflection: what was made of its best one; None in the last round.
        seconds: of each phase that was entered: generate, evaluate, reflect.
        error: why it failed, or why none of its candidates is valid.
        failed: the phase that raised.
    """

    number: int
    attempts: list[Attempt[C]] = field(default_factory=list)
    reflection: Reflection[F] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    failed: str | None = None

    @property
    def best(self) -> Attempt[C] | None:
        """The valid attempt with the highest score; the first of equals."""
        valid = [attempt for attempt in self.attempts if attempt.score.valid]
        return max(valid, key=lambda attempt: attempt.score.value, default=None)

    @property
    def verdict(self) -> bool | None:
        """Whether the critic calls the round's best attempt correct: the reflector's word, else the scorer's."""
        if self.reflection is not None and self.reflection.verdict is not None:
            return self.reflection.verdict
        return None if self.best is None else self.best.score.verdict

    @property
    def usage(self) -> Usage:
        """All that the round cost."""
        made = sum((attempt.usage + attempt.score.usage for attempt in self.attempts), Usage())
        return made if self.reflection is None else made + self.reflection.usage


@dataclass(slots=True)
class State(Generic[C, F]):
    """The loop so far. Stop conditions, selectors and the three steps read it; only the loop writes it.

    ``best`` is the invariant: its score never falls, and the first of equals stays.
    """

    rounds: list[Round[C, F]] = field(default_factory=list)
    best: Attempt[C] | None = None

    @property
    def attempts(self) -> list[Attempt[C]]:
        """Every attempt, in order."""
        return [attempt for done in self.rounds for attempt in done.attempts]

    @property
    def last(self) -> Attempt[C] | None:
        """The best attempt of the latest round that has a valid one."""
        return next((done.best for done in reversed(self.rounds) if done.best is not None), None)

    @property
    def reflection(self) -> F | None:
        """What the reflector said last; None before it has spoken."""
        said = [done.reflection.value for done in self.rounds if done.reflection is not None]
        return said[-1] if said else None

    @property
    def verdict(self) -> bool | None:
        """The critic's verdict on the current round's best attempt."""
        return self.rounds[-1].verdict if self.rounds else None

    @property
    def usage(self) -> Usage:
        """All that the loop has cost."""
        return sum((done.usage for done in self.rounds), Usage())

    @property
    def seconds(self) -> float:
        """Time spent in the steps."""
        return sum(sum(done.seconds.values()) for done in self.rounds)

    @property
    def rounds_without_gain(self) -> int:
        """Rounds since the one that the best attempt came from."""
        return len(self.rounds) - (0 if self.best is None else self.best.round)
