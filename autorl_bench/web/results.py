"""From the store to results: how each run of a scenario ended, in the terms of the leaderboard."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from astune.tools.types import SandboxLevel
from autorl_bench.leaderboard import Cost, Evaluated, RunResult
from autorl_bench.store import QueryState, Role, RunState, Store, Track, Transaction
from autorl_bench.store.columns import canonical_json
from autorl_bench.store.records import Run
from autorl_bench.submission.findings import FlagCode
from autorl_bench.types import Flag, Outcome

_OUTCOMES = {
    RunState.SCORED: Outcome.SCORED,
    RunState.INVALID: Outcome.INVALID,
    RunState.INTERRUPTED: Outcome.INFRASTRUCTURE,
    RunState.INFRASTRUCTURE: Outcome.INFRASTRUCTURE,
}
#: What a run with neither measurements nor a budget is charged to, so that it has axes.
_SOME_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What runs must share to be on one board: the scenario's very text, the track, the whole budget."""

    scenario_digest: str
    track: Track
    budget: str

    @classmethod
    def of(cls, run: Run) -> Setting:
        """The setting that a run was made in."""
        return cls(run.scenario_digest, run.track, canonical_json(dict(run.budget)))

    @property
    def key(self) -> str:
        """Eight hexadecimal digits that tell settings apart, for anchors and labels."""
        text = "\n".join((self.scenario_digest, self.track, self.budget))
        return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Entry:
    """A run with its place on a board.

    Attributes:
        agent: The agent's name; with its version where one board has several of them.
        result: None while the run goes on.
        flags: Findings that bind: the run is ranked apart.
        notices: Findings that tell how to read the score, and rank nothing.
        problem: Why a run with a score is on no board, else empty.
    """

    run: Run
    agent: str
    result: RunResult | None
    flags: tuple[Flag, ...] = ()
    notices: tuple[Flag, ...] = ()
    problem: str = ""

    @property
    def wall_seconds(self) -> float:
        """The run's budget of wall clock seconds."""
        seconds = self.run.budget.get("wall_seconds")
        return float(seconds) if isinstance(seconds, int | float) and seconds > 0 else _SOME_SECONDS


@dataclass(frozen=True, slots=True)
class RunClock:
    """What of its wall time a run had spent at a moment: the time in which its agent's processes were running.

    ``stretches`` are the beginnings and ends of the agent's attempts; a run that was interrupted and resumed has
    several, and is not charged for the time between them.
    """

    stretches: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, tx: Transaction, run: Run) -> RunClock:
        """From what was noted along the run; without notes, all the time since its start."""
        starts = [event.created for event in tx.ledger.events(run.id, "agent.started")]
        ends = [event.created for event in tx.ledger.events(run.id, "agent.ended")]
        first = run.started if run.started is not None else run.created
        starts = starts or [first]
        bounds = [min([end for end in ends if end >= start], default=math.inf) for start in starts]
        return cls(tuple(zip(starts, bounds, strict=True)))

    def spent(self, moment: float) -> float:
        """Seconds of the budget."""
        return sum(max(0.0, min(moment, end) - start) for start, end in self.stretches)


@dataclass(slots=True)
class Results:
    """Reads results from a store, and remembers those of runs that have ended: they change no more but for flags."""

    store: Store
    _known: dict[str, tuple[object, Entry]] = field(default_factory=dict)

    def scenarios(self) -> list[str]:
        """Names of the scenarios that have runs, in alphabetical order."""
        with self.store.read() as tx:
            return sorted({run.scenario for run in tx.runs.all()})

    def entries(self, scenario: str) -> dict[Setting, list[Entry]]:
        """All runs of a scenario by their setting, the setting with the newest run first, oldest runs first."""
        with self.store.read() as tx:
            found = [self.entry(tx, run) for run in tx.runs.all(scenario=scenario)]
        groups: dict[Setting, list[Entry]] = defaultdict(list)
        for entry in found:
            groups[Setting.of(entry.run)].append(entry)
        newest_first = sorted(groups, key=lambda setting: -groups[setting][-1].run.created)
        return {setting: _numbered(groups[setting]) for setting in newest_first}

    def entry(self, tx: Transaction, run: Run) -> Entry:
        """One run, with the attempt number 0 and the agent's plain name."""
        flags, sample = tx.ledger.flags(run.id), tx.ledger.last_sample(run.id)
        state = (run, len(flags), sample)
        known = self._known.get(run.id)
        if known is None or known[0] != state:
            known = (state, _entry(tx, run, [record.flag for record in flags]))
            if run.state.is_end:
                self._known[run.id] = known
        return known[1]


def run_results(entries: Iterable[Entry]) -> tuple[RunResult, ...]:
    """The results among entries: running runs have none."""
    return tuple(entry.result for entry in entries if entry.result is not None)


def binds(flag: Flag) -> bool:
    """Whether a run with this flag is ranked apart; one of a kind that is not known does."""
    try:
        return FlagCode(flag.code).binds
    except ValueError:
        return True


def _entry(tx: Transaction, run: Run, flags: Sequence[Flag]) -> Entry:
    binding = tuple(flag for flag in flags if binds(flag))
    notices = tuple(flag for flag in flags if not binds(flag))
    if run.state not in _OUTCOMES:
        return Entry(run, run.agent, None, binding, notices)
    evaluated, problem = _evaluated(tx, run)
    outcome = Outcome.INFRASTRUCTURE if problem else _OUTCOMES[run.state]
    dev_baseline = tx.results.of_run(run.id, Role.DEV_BASELINE)
    result = RunResult(
        agent=run.agent,
        scenario=run.scenario,
        seed=run.seed,
        outcome=outcome,
        evaluated=evaluated,
        flags=tuple(flag.code for flag in binding),
        progress=_progress(tx, run),
        dev_baseline=dev_baseline[0].evaluation.accuracy if dev_baseline else None,
        cost=_cost(tx, run),
        isolation=SandboxLevel(run.isolation) if run.isolation in set(SandboxLevel) else None,
    )
    return Entry(run, run.agent, result, binding, notices, problem)


def _evaluated(tx: Transaction, run: Run) -> tuple[Evaluated | None, str]:
    """The final evaluation against the base model's, or why the two can't be compared."""
    final, baseline = tx.results.score(run.id), tx.results.baseline(run.id)
    if final is None:
        return None, ""
    if baseline is None:
        return None, "the base model's score on this run's test was never recorded"
    try:
        return Evaluated.of(final.evaluation, baseline.evaluation), ""
    except ValueError as error:
        return None, str(error)


def _progress(tx: Transaction, run: Run) -> tuple[tuple[float, float], ...]:
    clock = RunClock.of(tx, run)
    answered = (query for query in tx.submissions.dev_queries(run.id) if query.state == QueryState.ANSWERED)
    found = [tx.results.get(query.evaluation_id) for query in answered if query.evaluation_id is not None]
    return tuple((clock.spent(record.created), record.evaluation.accuracy) for record in found)


def _cost(tx: Transaction, run: Run) -> Cost:
    sample = tx.ledger.last_sample(run.id)
    if sample is not None:
        usage = sample.usage
        return Cost(usage.wall_seconds, usage.cpu_seconds, usage.peak_memory, usage.agent_tokens)
    known = run.started is not None and run.ended is not None
    return Cost(wall_seconds=run.ended - run.started) if known else Cost()  # type: ignore[operator]  # both are known


def _numbered(entries: Sequence[Entry]) -> list[Entry]:
    """With attempts counted, and agents told apart by version where one name stands for several."""
    versions: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        versions[entry.run.agent].add(entry.run.agent_digest)
    attempts: Counter[tuple[str, int]] = Counter()
    numbered = []
    for entry in entries:
        run = entry.run
        label = run.agent if len(versions[run.agent]) == 1 else f"{run.agent} @{run.agent_digest[:6]}"
        attempt = attempts[label, run.seed]
        attempts[label, run.seed] += 1
        result = None if entry.result is None else replace(entry.result, agent=label, attempt=attempt)
        numbered.append(replace(entry, agent=label, result=result))
    return numbered
