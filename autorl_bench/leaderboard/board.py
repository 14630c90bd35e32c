"""The leaderboard of one scenario: a row an agent, from the results of all its runs.

The rules, in their order:

1. Of several attempts at one seed the first that did not fail for a reason of ours counts. A repeated run repairs an
   infrastructure failure, and is no way to draw again after a bad score.
2. A run without a score is never a 0. ``invalid`` (the submission's fault) and ``infrastructure`` (ours) are counted
   apart. Nothing is put in place of a missing seed: means are over the seeds that have a score, differences between
   two agents over the seeds that both have.
3. A missing seed must not help, either. An agent of which a counted run is invalid, or flagged where flagged runs are
   left out, has a row and no rank: its other seeds are a selection that it made itself. So has one with fewer than
   ``min_seeds`` scores. Missing for reasons of ours costs no rank beyond that.
4. Flagged runs are in the table or not, as asked: both tables come from the same runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from astune.tools.types import SandboxLevel
from autorl_bench.leaderboard.bootstrap import RESAMPLES
from autorl_bench.leaderboard.compare import BySeed, improvement, normalised
from autorl_bench.leaderboard.curves import Curve, curve, mean_curve
from autorl_bench.leaderboard.ranks import ranks
from autorl_bench.leaderboard.types import Cost, Estimate, RunResult
from autorl_bench.types import Outcome

#: Worst first: a row is as isolated as its least isolated run.
_LEVELS = (None, SandboxLevel.PROCESS, SandboxLevel.KERNEL)


@dataclass(frozen=True, slots=True)
class Row:
    """One agent. Scores in percent, improvements in percentage points; None where no run has a score.

    ``rank`` is None for an agent that may not be ranked (``why_unranked`` says why). ``cost`` is the mean of
    the counted runs that did not fail for a reason of ours. ``normalised`` is None where it is undefined. ``flagged``
    counts the flagged runs, whether this table has them in its numbers or not.
    """

    agent: str
    rank: int | None
    why_unranked: str
    score: float | None
    baseline: float | None
    improvement: Estimate | None
    normalised: Estimate | None
    curve: Curve | None
    cost: Cost | None
    isolation: SandboxLevel | None
    scored: int
    invalid: int
    infrastructure: int
    flagged: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """An agent's counted runs, and those of them whose scores this table uses."""

    counted: tuple[RunResult, ...]
    used: tuple[RunResult, ...]

    @property
    def by_seed(self) -> BySeed:
        return {run.seed: run.evaluated for run in self.used if run.evaluated is not None}

    def count(self, outcome: Outcome) -> int:
        return sum(run.outcome == outcome for run in self.counted)

    def why_unranked(self, min_seeds: int) -> str:
        left_out = self.count(Outcome.SCORED) - len(self.used)
        if left_out:
            return f"{left_out} of {len(self.counted)} runs flagged"
        if invalid := self.count(Outcome.INVALID):
            return f"{invalid} of {len(self.counted)} runs invalid"
        if len(self.used) < min_seeds:
            return f"{len(self.used)} of at least {min_seeds} seeds scored"
        return ""


def count_runs(runs: Iterable[RunResult]) -> tuple[RunResult, ...]:
    """Of each agent, scenario and seed the run that counts: the first that did not fail for a reason of ours.

    Where all failed so, the last of them stands for the seed. Sorted by agent, scenario and seed.
    """
    chosen: dict[tuple[str, str, int], RunResult] = {}
    for run in sorted(runs, key=lambda run: run.attempt):
        key = (run.agent, run.scenario, run.seed)
        if key not in chosen or chosen[key].outcome == Outcome.INFRASTRUCTURE:
            chosen[key] = run
    return tuple(chosen[key] for key in sorted(chosen))


def board(
    runs: Iterable[RunResult],
    *,
    budget: float,
    include_flagged: bool = False,
    reference: str = "reference_recipe",
    min_seeds: int = 2,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Row, ...]:
    """The table of one scenario: ranked rows by mean improvement, best first, then the unranked by name.

    Args:
        runs: Results of one scenario, of any agents and seeds.
        budget: Wall seconds of the scenario, the end of the curves.
        include_flagged: Use the scores of flagged runs.
        reference: The agent whose improvement is 1 on the normalised scale.
        min_seeds: Seeds with a score that an agent needs for a rank.
        resamples: Bootstrap draws of each interval.
        seed: Seed of the bootstraps; the same runs and seed give the same table.

    Raises:
        ValueError: the runs are of several scenarios, or the budget is not positive.
    """
    counted = count_runs(runs)
    scenarios = sorted({run.scenario for run in counted})
    if len(scenarios) > 1:
        raise ValueError(f"one board is of one scenario, and these runs are of {', '.join(scenarios)}")
    entries = {name: _entry(counted, name, include_flagged) for name in {run.agent for run in counted}}
    ranked = {name: entry.by_seed for name, entry in entries.items() if not entry.why_unranked(min_seeds)}
    places = ranks(ranked, resamples=resamples, seed=seed)
    anchor = entries[reference].by_seed if reference in entries else {}
    rows = []
    for name, entry in entries.items():
        gain = improvement(entry.by_seed, resamples=resamples, seed=seed) if entry.used else None
        share = normalised(entry.by_seed, anchor, resamples=resamples, seed=seed) if gain and anchor else None
        rows.append(_row(name, entry, places.get(name), entry.why_unranked(min_seeds), gain, share, budget))
    return tuple(sorted(rows, key=_order))


def _entry(counted: Sequence[RunResult], name: str, include_flagged: bool) -> _Entry:
    own = tuple(run for run in counted if run.agent == name)
    scored = (run for run in own if run.outcome == Outcome.SCORED)
    return _Entry(own, tuple(run for run in scored if include_flagged or not run.flags))


def _row(
    name: str,
    entry: _Entry,
    rank: int | None,
    why_unranked: str,
    gain: Estimate | None,
    share: Estimate | None,
    budget: float,
) -> Row:
    evaluations = list(entry.by_seed.values())
    baselines = {run.seed: 100 * _mean(run.evaluated.baseline) for run in entry.used if run.evaluated is not None}
    own = [run for run in entry.counted if run.outcome != Outcome.INFRASTRUCTURE]
    return Row(
        agent=name,
        rank=rank,
        why_unranked=why_unranked,
        score=100 * _mean([_mean(one.scores) for one in evaluations]) if evaluations else None,
        baseline=_mean(list(baselines.values())) if evaluations else None,
        improvement=gain,
        normalised=share,
        curve=mean_curve([run_curve(run, baselines[run.seed], budget) for run in entry.used]) if entry.used else None,
        cost=_mean_cost([run.cost for run in own]) if own else None,
        isolation=min((run.isolation for run in own), key=_LEVELS.index, default=None),
        scored=entry.count(Outcome.SCORED),
        invalid=entry.count(Outcome.INVALID),
        infrastructure=entry.count(Outcome.INFRASTRUCTURE),
        flagged=sum(bool(run.flags) for run in entry.counted),
    )


def run_curve(run: RunResult, test_baseline: float, budget: float) -> Curve:
    """A run's dev scores against the base model's on dev, or where nobody measured that, on test (percent)."""
    baseline = test_baseline if run.dev_baseline is None else run.dev_baseline
    return curve(run.progress, baseline, budget)


def _order(row: Row) -> tuple[float, float, str]:
    gain = row.improvement.mean if row.improvement else 0.0
    return (row.rank, -gain, row.agent) if row.rank is not None else (float("inf"), 0.0, row.agent)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _mean_cost(costs: Sequence[Cost]) -> Cost:
    return Cost(
        wall_seconds=_mean([cost.wall_seconds for cost in costs]),
        cpu_seconds=_mean([cost.cpu_seconds for cost in costs]),
        peak_memory=max(cost.peak_memory for cost in costs),
        tokens=round(_mean([cost.tokens for cost in costs])),
    )
