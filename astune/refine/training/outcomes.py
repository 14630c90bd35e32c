"""What refinement did to a batch or an evaluation: accuracies at each attempt, transitions, and where they lead.

Accuracy@t2 has two readings, and both are reported. *Ungated*: every row is refined. *Oracle-gated*: rows that the
judge found correct keep their answer, which nobody can do at inference. A policy that ruins its correct answers is seen
in the first only. At inference the gate is the critic's verdict, or a score against a threshold.

Refinement is a chain of two states, correct and incorrect, with a = P(c|i) and b = P(i|c). Accuracy follows
p' = p (1 - b) + (1 - p) a, whose fixed point is a / (a + b); the distance to it shrinks by |1 - a - b| a round.
Another round pays only while the fixed point lies above the current accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from astune.refine.training.credit import Chain
from astune.report.statistics import PairedDifference, paired_difference, wilson_interval


@dataclass(frozen=True, slots=True)
class Rate:
    """``successes`` of ``n``."""

    successes: int
    n: int

    @property
    def value(self) -> float | None:
        """The rate, None without cases."""
        return self.successes / self.n if self.n else None

    @property
    def ci95(self) -> tuple[float, float]:
        """Wilson's interval; (0, 1) without cases."""
        return wilson_interval(self.successes, self.n)


@dataclass(frozen=True, slots=True)
class Transitions:
    """How many rows went from (in)correct to (in)correct: ``ic`` is i→c, incorrect to correct."""

    ic: int = 0
    ii: int = 0
    cc: int = 0
    ci: int = 0

    @classmethod
    def of(cls, before: Sequence[bool], after: Sequence[bool]) -> Transitions:
        """Counts the pairs of two sequences of the same rows."""
        pairs = list(zip(before, after, strict=True))
        return cls(
            ic=pairs.count((False, True)),
            ii=pairs.count((False, False)),
            cc=pairs.count((True, True)),
            ci=pairs.count((True, False)),
        )

    @property
    def total(self) -> int:
        """All rows."""
        return self.ic + self.ii + self.cc + self.ci

    @property
    def correct_at_t1(self) -> int:
        """Rows whose first answer was correct."""
        return self.cc + self.ci

    @property
    def correct_at_t2(self) -> int:
        """Rows that are correct after refinement."""
        return self.ic + self.cc

    @property
    def corrected(self) -> Rate:
        """a = P(c|i)."""
        return Rate(self.ic, self.ic + self.ii)

    @property
    def broken(self) -> Rate:
        """b = P(i|c)."""
        return Rate(self.ci, self.ci + self.cc)

    @property
    def fixed_point(self) -> float | None:
        """a / (a + b); None where a rate is unknown, or where both are 0 and every accuracy stays as it is."""
        # In whole numbers, so that it equals an accuracy to the bit where it equals it at all.
        up, down = self.ic * self.broken.n, self.ci * self.corrected.n
        return up / (up + down) if up + down else None

    def step(self, accuracy: float) -> float | None:
        """Accuracy after one more such round; None where a rate is unknown that it needs."""
        a, b = self.corrected.value, self.broken.value
        if (a is None and accuracy < 1) or (b is None and accuracy > 0):
            return None
        return accuracy * (1 - (b or 0.0)) + (1 - accuracy) * (a or 0.0)


@dataclass(frozen=True, slots=True)
class RefineOutcomes:
    """Counts and rates of the rows that could be graded; t1 is the first answer, tK the last attempt.

    Args:
        rows: graded rows, the denominator of every accuracy.
        ungradable: rows left out because one of their attempts could not be graded.
        refined: rows that have all K attempts.
        accuracies: Acc@t1 .. Acc@tK, ungated; None from the attempt on that not every row has.
        delta: Acc@tK - Acc@t1, ungated, with its paired interval; None where Acc@tK is.
        transitions: from t1 to tK, of the rows refined.
        as_run: the same of all rows; one that was not refined further stands as it is.
        rounds: from each attempt to the next, of the rows that have both.
        oracle_gated: Acc@tK when the judge stops a row at its first correct attempt.
        verdict_gated: ... when the critic's "it is correct" does. None where a verdict or attempt is missing for it.
        score_gated: ... when a score at or above the threshold does. None where a score or attempt is missing for it.
    """

    rows: int
    ungradable: int
    refined: int
    accuracies: tuple[Rate | None, ...]
    delta: PairedDifference | None
    transitions: Transitions
    as_run: Transitions
    rounds: tuple[Transitions, ...]
    oracle_gated: Rate | None
    verdict_gated: Rate | None
    score_gated: Rate | None

    @property
    def ungated(self) -> Rate | None:
        """Acc@tK when every row is refined; None where not every row was."""
        return self.accuracies[-1]

    @property
    def ungated_estimate(self) -> float | None:
        """Acc@tK, ungated, from Acc@t1 and the rates of the rows refined: p (1 - b) + (1 - p) a.

        Equals ``ungated`` where all rows were refined. Where correct rows were left out by chance (``rows:
        mixture``) it is an estimate; where a critic left them out, it is none.
        """
        first = self.accuracies[0]
        accuracy = None if first is None else first.value
        return None if accuracy is None else self.transitions.step(accuracy)

    @property
    def fixed_point(self) -> float | None:
        """Accuracy to which more rounds like the last one lead."""
        return self.rounds[-1].fixed_point if self.rounds else None

    @property
    def more_rounds_pay(self) -> bool | None:
        """Whether the fixed point lies above the accuracy reached; None where one of them is unknown."""
        reached, limit = self._reached, self.fixed_point
        return None if reached is None or limit is None else limit > reached

    @property
    def advice(self) -> str:
        """One sentence on whether to add a round."""
        reached, limit = self._reached, self.fixed_point
        if reached is None:
            return "Whether more rounds pay is not known: not every answer was refined."
        if limit is None:
            last = self.rounds[-1]
            for rate, state in ((last.broken, "correct"), (last.corrected, "incorrect")):
                if rate.n == 0:
                    return f"Whether more rounds pay is not known: no answer was {state} before the last one."
            return "More rounds change nothing seen here: no answer became correct or incorrect."
        compared = "above" if limit > reached else "not above"
        verdict = "pay" if limit > reached else "do not pay"
        return f"More rounds {verdict}: they lead to {limit:.1%}, {compared} the {reached:.1%} reached."

    def to_row(self) -> dict[str, float | None]:
        """Flat numbers for JSON and metrics, None where unknown; ``*_low`` to ``*_high`` is a rate's 95 % interval."""
        row: dict[str, float | None] = {
            "rows": self.rows,
            "ungradable": self.ungradable,
            "refined": self.refined,
        }
        for turn, accuracy in enumerate(self.accuracies, start=1):
            row |= _rate_row(f"accuracy_t{turn}", accuracy)
        row["ungated_estimate"] = self.ungated_estimate
        for gate in ("oracle", "verdict", "score"):
            row |= _rate_row(f"accuracy_{gate}_gated", getattr(self, f"{gate}_gated"))
        low, high = self.delta.ci95 if self.delta else (None, None)
        row |= {"delta": self.delta.difference if self.delta else None, "delta_low": low, "delta_high": high}
        row["delta_p"] = self.delta.p_value if self.delta else None
        for name in ("ic", "ii", "cc", "ci"):
            row[name] = getattr(self.transitions, name)
        last = self.rounds[-1] if self.rounds else Transitions()
        row |= _rate_row("p_c_given_i", last.corrected) | _rate_row("p_i_given_c", last.broken)
        return row | {"fixed_point": self.fixed_point, "more_rounds_pay": self.more_rounds_pay}

    @property
    def _reached(self) -> float | None:
        return None if self.ungated is None else self.ungated.value


def measure(
    chains: Sequence[Chain],
    *,
    attempts: int | None = None,
    scores: Sequence[Sequence[float]] | None = None,
    threshold: float | None = None,
    resamples: int = 2000,
) -> RefineOutcomes:
    """Outcomes of a batch or an evaluation.

    Args:
        chains: one a row; what counts is their ``correct`` and ``verdicts``.
        attempts: K; attempts beyond it are not looked at. None takes the longest chain, and at least 2.
        scores: of each attempt of each chain, from whatever scores at inference (never the judge).
        threshold: the score from which on a row is left as it is.
        resamples: of the bootstrap behind the interval of ``delta``.

    Raises:
        ValueError: scores that do not go with the chains.
    """
    if scores is not None and len(scores) != len(chains):
        raise ValueError(f"scores of {len(scores)} rows, chains of {len(chains)}")
    last = attempts or max([2, *(len(chain.correct) for chain in chains)])
    kept = [number for number, chain in enumerate(chains) if None not in chain.correct[:last]]
    correct = [[bool(word) for word in chains[number].correct[:last]] for number in kept]
    full = [words for words in correct if len(words) == last]
    complete = len(full) == len(correct) > 0
    verdicts = [chains[number].verdicts for number in kept]
    marks = None if scores is None or threshold is None else [[s >= threshold for s in scores[n]] for n in kept]
    firsts, lasts = [words[0] for words in full], [words[-1] for words in full]
    return RefineOutcomes(
        rows=len(kept),
        ungradable=len(chains) - len(kept),
        refined=len(full),
        accuracies=tuple(_accuracy(correct, turn) for turn in range(last)),
        delta=paired_difference(firsts, lasts, resamples) if complete else None,
        transitions=Transitions.of(firsts, lasts),
        as_run=Transitions.of([words[0] for words in correct], [words[-1] for words in correct]),
        rounds=tuple(_round(correct, turn) for turn in range(1, last)),
        oracle_gated=_gated(correct, correct, last),
        verdict_gated=_gated(correct, verdicts, last),
        score_gated=None if marks is None else _gated(correct, marks, last),
    )


def _accuracy(correct: Sequence[Sequence[bool]], turn: int) -> Rate | None:
    """Accuracy at an attempt (from 0) that every row has."""
    if any(len(words) <= turn for words in correct):
        return None
    return Rate(sum(words[turn] for words in correct), len(correct))


def _round(correct: Sequence[Sequence[bool]], turn: int) -> Transitions:
    both = [words for words in correct if len(words) > turn]
    return Transitions.of([words[turn - 1] for words in both], [words[turn] for words in both])


def _gated(correct: Sequence[Sequence[bool]], stops: Sequence[Sequence[bool | None]], attempts: int) -> Rate | None:
    """Accuracy when each row stops at its first attempt with a true mark, or at the last; None if one can't be told."""
    ends = [_end(words, marks, attempts) for words, marks in zip(correct, stops, strict=True)]
    known = [end for end in ends if end is not None]
    return Rate(sum(known), len(known)) if len(known) == len(ends) else None


def _end(words: Sequence[bool], marks: Sequence[bool | None], attempts: int) -> bool | None:
    for turn in range(min(attempts, len(words))):
        if turn == attempts - 1:
            return words[turn]
        if turn >= len(marks):
            return None
        if marks[turn]:
            return words[turn]
    return None


def _rate_row(name: str, rate: Rate | None) -> dict[str, float | None]:
    if rate is None or rate.value is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: rate.value, f"{name}_low": rate.ci95[0], f"{name}_high": rate.ci95[1]}
