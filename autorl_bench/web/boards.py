"""Boards: the rows of one scenario in one setting, with and without flagged runs; on the page and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from autorl_bench.leaderboard import Curve, Estimate, Row, RunResult, board, count_runs, improvement, run_curve
from autorl_bench.store import Store
from autorl_bench.web.results import Entry, Results, Setting, run_results

#: The agent whose improvement is 1 on the normalised scale.
REFERENCE = "reference_recipe"


@dataclass(frozen=True, slots=True)
class Board:
    """One leaderboard. ``clean`` leaves out the scores of flagged runs, ``complete`` has them."""

    scenario: str
    setting: Setting
    entries: tuple[Entry, ...]
    clean: tuple[Row, ...]
    complete: tuple[Row, ...]

    @property
    def budget(self) -> Mapping[str, Any]:
        """What each run could use, as the runs were made with it."""
        return self.entries[0].run.budget

    @property
    def wall_seconds(self) -> float:
        """The end of the curves."""
        return self.entries[0].wall_seconds

    @property
    def has_flagged(self) -> bool:
        """Whether the two tables can differ."""
        return any(entry.flags for entry in self.entries)

    @property
    def counted(self) -> frozenset[tuple[str, int, int]]:
        """Agent, seed and attempt of each run that counts; a repeated one does where the earlier one failed for us."""
        return frozenset((run.agent, run.seed, run.attempt) for run in count_runs(run_results(self.entries)))

    def counts(self, entry: Entry) -> bool:
        """Whether an entry is one of its agent's counted runs."""
        result = entry.result
        return result is not None and (result.agent, result.seed, result.attempt) in self.counted

    def curves(self, agent: str, include_flagged: bool) -> list[Curve]:
        """The curve of each of an agent's counted runs with a score, by seed."""
        runs = (run for run in count_runs(run_results(self.entries)) if run.agent == agent)
        used = [run for run in runs if run.evaluated is not None and (include_flagged or not run.flags)]
        return [run_curve(run, baseline_of(run), self.wall_seconds) for run in used]


def read_boards(results: Results, scenario: str) -> list[Board]:
    """The boards of a scenario, that with the newest run first; none where it has no runs."""
    return [_board(scenario, setting, entries) for setting, entries in results.entries(scenario).items()]


def _board(scenario: str, setting: Setting, entries: Sequence[Entry]) -> Board:
    runs, seconds = run_results(entries), entries[0].wall_seconds
    reference = next((entry.agent for entry in reversed(entries) if entry.run.agent == REFERENCE), REFERENCE)
    clean = _rows(runs, seconds, reference, False)
    complete = _rows(runs, seconds, reference, True) if any(run.flags for run in runs) else clean
    return Board(scenario, setting, tuple(entries), clean, complete)


@lru_cache(maxsize=64)
def _rows(runs: tuple[RunResult, ...], seconds: float, reference: str, include_flagged: bool) -> tuple[Row, ...]:
    """Remembered, because every look at a page would draw the same bootstraps again."""
    return board(runs, budget=seconds, include_flagged=include_flagged, reference=reference)


@lru_cache(maxsize=1024)
def gain_of(run: RunResult) -> Estimate | None:
    """One run's own improvement: its interval covers the choice of items, and not that of a seed."""
    return None if run.evaluated is None else improvement({run.seed: run.evaluated})


def score_of(run: RunResult) -> float | None:
    """A run's test score in percent."""
    return None if run.evaluated is None else 100 * math.fsum(run.evaluated.scores) / len(run.evaluated.scores)


def baseline_of(run: RunResult) -> float:
    """The base model's score on a run's test in percent; 0 for a run without a score."""
    if run.evaluated is None:
        return 0.0
    return 100 * math.fsum(run.evaluated.baseline) / len(run.evaluated.baseline)


def is_tied(row: Row, rows: Sequence[Row]) -> bool:
    """Whether a row shares its rank."""
    return row.rank is not None and sum(other.rank == row.rank for other in rows) > 1


# --- JSON -------------------------------------------------------------------------------------------------------


def leaderboard_json(store: Store | Results, scenario: str) -> dict[str, Any]:
    """The JSON of ``GET /leaderboard/{scenario}``: a board for each setting, the one with the newest run first.

    Scores are percent, improvements percentage points, times seconds, sizes bytes. An end of an interval that is not
    finite is null. A scenario without runs has no boards.
    """
    results = store if isinstance(store, Results) else Results(store)
    return {"scenario": scenario, "boards": [_board_json(one) for one in read_boards(results, scenario)]}


def _board_json(one: Board) -> dict[str, Any]:
    return {
        "setting": one.setting.key,
        "track": one.setting.track,
        "scenario_digest": one.setting.scenario_digest,
        "budget": dict(one.budget),
        "reference": REFERENCE,
        "without_flagged": [_row_json(row, one.clean) for row in one.clean],
        "with_flagged": [_row_json(row, one.complete) for row in one.complete],
        "runs": [_entry_json(one, entry) for entry in one.entries],
    }


def _row_json(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    plain = ("agent", "rank", "why_unranked", "score", "baseline", "isolation")
    return {
        **{name: getattr(row, name) for name in plain},
        "tied": is_tied(row, rows),
        "improvement": _estimate_json(row.improvement),
        "normalised": _estimate_json(row.normalised),
        "area": None if row.curve is None else row.curve.area,
        "curve": None if row.curve is None else {"seconds": row.curve.seconds, "best": row.curve.best},
        "cost": None if row.cost is None else asdict(row.cost),
        "runs": {name: getattr(row, name) for name in ("scored", "invalid", "infrastructure", "flagged")},
    }


def _entry_json(one: Board, entry: Entry) -> dict[str, Any]:
    run, result = entry.run, entry.result
    scored = result is not None and result.evaluated is not None
    return {
        "id": run.id,
        "agent": entry.agent,
        "seed": run.seed,
        "state": run.state,
        "counts": one.counts(entry),
        "outcome": None if result is None else result.outcome,
        "score": score_of(result) if result is not None and scored else None,
        "baseline": baseline_of(result) if result is not None and scored else None,
        "improvement": _estimate_json(gain_of(result)) if result is not None else None,
        "flags": [flag.code for flag in entry.flags] if run.state.is_end else [],
        "notices": [flag.code for flag in entry.notices] if run.state.is_end else [],
        "isolation": run.isolation,
    }


def _estimate_json(estimate: Estimate | None) -> dict[str, float | int | None] | None:
    if estimate is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in asdict(estimate).items()}
