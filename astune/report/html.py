"""``report.html``: one self-contained file that shows what a run did, token by token where it matters.

Nothing is loaded from anywhere: style, script and charts are inside. Whatever a model, a task or a
configuration wrote is escaped by the template engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from astune.files import atomic_write
from astune.report import charts, tokens
from astune.report.cases import Case, ShownEpisode, choose_cases, choose_episodes
from astune.report.environment import environment
from astune.report.metrics import HABIT_LABELS, HABITS, Evaluation, answers, is_solved, is_ungradable, last_turn
from astune.report.refinement import OUTCOME_COLUMNS, ShownChain, batch_outcomes, choose_chains, outcome_cells
from astune.report.run_folder import RunFolder
from astune.report.summary import duration, percent, read_summary
from astune.trace import Episode

_WIDE, _HALF, _NARROW = (1040, 300), (508, 240), (360, 230)
#: Columns of the metrics table, where a run has them; everything else is in ``metrics.jsonl``.
_COLUMNS = (
    "step", "reward_mean", "success_rate", *(f"habit/{habit}" for habit in HABITS), "ungradable_rate",
    "episodes_failed", "groups_informative", "turns_per_episode", "completion_tokens", "loss", "learning_rate",
    "grad_norm",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything that the report shows, as read from a run folder."""

    name: str
    summary: Mapping[str, Any] | None
    config: str
    metrics: Sequence[Mapping[str, Any]]
    timings: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Evaluation]
    cases: Sequence[Case]
    #: From the latest evaluation with refinement: the question, its answers and their critiques.
    chains: Sequence[ShownChain] = ()
    #: Of the latest training step, where there are no cases yet; and how all episodes of that step ended.
    episodes: Sequence[ShownEpisode] = ()
    outcomes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Drawing:
    """One chart in the two sizes among which the style sheet chooses."""

    title: str
    legend: list[tuple[str, str]]
    wide: Markup
    narrow: Markup
    half: bool


def load_report_data(folder: RunFolder) -> ReportData:
    """Reads a run folder, finished or not.

    Raises:
        CheckpointError: a file in it is damaged.
    """
    evaluations = folder.read_evaluations()
    sampled = [evaluation.step for evaluation in evaluations if evaluation.mode == "sampled"]
    cases: list[Case] = []
    if len(sampled) > 1:
        steps = sampled[0], sampled[-1]
        before, after = (answers(folder.read_evaluation_episodes(step, "sampled")) for step in steps)
        cases = choose_cases(folder.read_heldout_tasks(), before, after)
    tasks, episodes = ([], []) if cases else folder.read_newest_episodes()
    episodes = answers(episodes)
    return ReportData(
        name=folder.name,
        summary=read_summary(folder),
        config=folder.config.read_text(encoding="utf-8") if folder.config.exists() else "",
        metrics=folder.read_metrics(),
        timings=folder.read_timings(),
        evaluations=evaluations,
        cases=cases,
        chains=newest_chains(folder, evaluations),
        episodes=choose_episodes(tasks, episodes),
        outcomes=Counter(_outcome(episode)[1] for episode in episodes),
    )


def newest_chains(folder: RunFolder, evaluations: Sequence[Evaluation]) -> list[ShownChain]:
    """Chains of the latest sampled evaluation with refinement; none where there was none."""
    refined = [evaluation.step for evaluation in evaluations if evaluation.refine and evaluation.mode == "sampled"]
    if not refined:
        return []
    return choose_chains(folder.read_heldout_tasks(), folder.read_evaluation_episodes(refined[-1], "sampled"))


def write_report(folder: RunFolder, decode: Callable[[int], str]) -> None:
    """Writes ``report.html`` from what the run folder holds; ``decode`` gives the text of one token id."""
    atomic_write(folder.report, render_report(load_report_data(folder), decode))


def render_report(data: ReportData, decode: Callable[[int], str]) -> str:
    """The whole page as text."""
    seen_in = (data.summary or {}).get("environment") or environment()
    return _template().render(
        data=data,
        summary=data.summary,
        habits=HABIT_LABELS,
        drawings=_drawings(data),
        columns=[name for name in _COLUMNS if any(name in row for row in data.metrics)],
        environment=seen_in,
        shades=[f"{100 * low:.0f}" for low in tokens.SHADES],
        speed=_speed(data.timings),
        segments=lambda trajectory: tokens.segments(trajectory, decode),
        outcome=_outcome,
        bad_habits=_bad_habits,
        last_turn=last_turn,
        outcome_columns=OUTCOME_COLUMNS,
        outcome_cells=outcome_cells,
        batch_outcomes=batch_outcomes,
    )


@cache
def _template() -> Template:
    engine = Environment(
        loader=PackageLoader("astune.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters.update(percent=percent, duration=duration, cell=_cell)
    return engine.get_template("report.html")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) >= 2 else f"{value:.4g}"
    return "" if value is None else str(value)


def _outcome(episode: Episode) -> tuple[str, str]:
    """CSS class and text of how an episode ended."""
    if episode.role == "critique" and episode.error is None:
        return "unsure", "not graded"
    if is_solved(episode):
        return "good", "solved"
    if episode.stop_reason != "finished":
        return "bad", episode.stop_reason.replace("_", " ")
    return ("unsure", "ungradable") if is_ungradable(episode) else ("bad", "wrong")


def _bad_habits(episode: Episode) -> list[str]:
    return [HABIT_LABELS[habit] for habit in HABITS if episode.habits.get(habit)]


def _speed(timings: Sequence[Mapping[str, Any]]) -> float | None:
    rates = sorted(row["tokens_per_second"] for row in timings if row.get("tokens_per_second"))
    return rates[len(rates) // 2] if rates else None


def _drawings(data: ReportData) -> list[Drawing]:
    if not data.metrics:
        return []
    solved = charts.Chart(
        title="Problems solved",
        series=[_series(data.metrics, "success_rate", "training problems", "success")],
        points=[_heldout(data.evaluations, mode) for mode in ("sampled", "greedy")],
    )
    reward = _series(data.metrics, "reward_mean", "reward", "reward")
    y_range = (min([0.0, *reward.raw]), max([1.0, *reward.raw]))
    rewards = charts.Chart(title="Reward", series=[reward], y_range=y_range, percent=False)
    habits = [_series(data.metrics, f"habit/{habit}", HABIT_LABELS[habit], habit) for habit in HABITS]
    top = max([0.1, *(value for series in habits for value in series.raw)])
    bad = charts.Chart(title="Bad habits, share of episodes", series=habits, y_range=(0.0, top))
    # A run that refines has its attempts to show; what it answers without tools can't show a tool's bad habits.
    last = _draw(bad, half=True) if not any("refine/rows" in row for row in data.metrics) else _refinement(data)
    return [_draw(solved, half=False), _draw(rewards, half=True), last]


def _refinement(data: ReportData) -> Drawing:
    """Accuracy of the first and of the last attempt over the steps; each problem refined, whatever the gate."""
    refined = [evaluation for evaluation in data.evaluations if evaluation.refine and evaluation.mode == "sampled"]
    last = max([2, *(last_turn(evaluation.refine) for evaluation in refined if evaluation.refine)])
    chart = charts.Chart(
        title=f"Accuracy of attempts 1 and {last}, every answer refined",
        series=[
            _series(data.metrics, "refine/accuracy_t1", "attempt 1, training problems", "success"),
            _series(data.metrics, f"refine/accuracy_t{last}", f"attempt {last}, training problems", "reward"),
        ],
        points=[_attempts(refined, 1, "greedy"), _attempts(refined, last, "sampled")],
    )
    return _draw(chart, half=True)


def _attempts(refined: Sequence[Evaluation], turn: int, style: str) -> charts.Points:
    rows = [(evaluation.step, evaluation.refine or {}) for evaluation in refined]
    known = [(step, row) for step, row in rows if row.get(f"accuracy_t{turn}") is not None]
    return charts.Points(
        name=f"attempt {turn}, held-out",
        style=style,
        x=[step for step, _ in known],
        y=[row[f"accuracy_t{turn}"] for _, row in known],
        intervals=[(row[f"accuracy_t{turn}_low"], row[f"accuracy_t{turn}_high"]) for _, row in known],
        shift=-2.5 if turn == 1 else 2.5,
    )


def _draw(chart: charts.Chart, half: bool) -> Drawing:
    legend = [(item.style, item.name) for item in chart.items if item.x]
    wide = charts.svg(chart, *(_HALF if half else _WIDE))
    return Drawing(chart.title, legend, wide, charts.svg(chart, *_NARROW), half)


def _series(metrics: Sequence[Mapping[str, Any]], key: str, name: str, style: str) -> charts.Series:
    rows = [row for row in metrics if row.get(key) is not None]
    values = [float(row[key]) for row in rows]
    window = charts.smoothing_window(len(values))
    return charts.Series(name, style, [row["step"] for row in rows], charts.smooth(values, window), values)


def _heldout(evaluations: Sequence[Evaluation], mode: str) -> charts.Points:
    mine = [evaluation for evaluation in evaluations if evaluation.mode == mode]
    return charts.Points(
        name=f"held-out, {mode}",
        style=mode,
        x=[evaluation.step for evaluation in mine],
        y=[evaluation.success for evaluation in mine],
        intervals=[evaluation.ci95 for evaluation in mine],
        shift=2.5 if mode == "greedy" else -2.5,
    )
