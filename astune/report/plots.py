"""``plots/reward_curve.png``: reward, success and bad habits over training, for people who want one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from astune.files import atomic_path
from astune.report.charts import smooth, smoothing_window
from astune.report.metrics import HABIT_LABELS, HABITS, Evaluation, last_turn
from astune.report.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _MUTED, _GRID = "#1d1c1a", "#6f6b63", "#e4e1d9"
_ACCENT, _TRAINING = "#3451c7", "#a49e91"
_HABIT_COLOURS = ("#c2560c", "#0c7a86", "#a03a8c")


def write_reward_curve(folder: RunFolder) -> None:
    """Draws the curves of a run folder into its ``plots/reward_curve.png``.

    Raises:
        CheckpointError: the folder cannot be read or written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # matplotlib takes a second to import
    from matplotlib.figure import Figure

    metrics, evaluations = folder.read_metrics(), folder.read_evaluations()
    figure = Figure(figsize=(11, 3.9), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    _solved(left, metrics, evaluations)
    _line(middle, metrics, "reward_mean", "reward", _ACCENT)
    _finish(middle, "Reward, training problems")
    if any(evaluation.refine for evaluation in evaluations):
        _attempts(right, metrics, evaluations)
    else:
        for habit, colour in zip(HABITS, _HABIT_COLOURS, strict=True):
            _line(right, metrics, f"habit/{habit}", HABIT_LABELS[habit], colour)
        _finish(right, "Bad habits, share of episodes", percent=True)
    figure.suptitle(folder.name, x=0.012, ha="left", fontsize=13, fontweight="bold", color=_INK)
    with atomic_path(folder.reward_curve) as path:
        figure.savefig(path, dpi=150, format="png", metadata={"Software": None})


def _solved(axes: Axes, metrics: Sequence[Mapping[str, Any]], evaluations: Sequence[Evaluation]) -> None:
    _line(axes, metrics, "success_rate", "training problems", _TRAINING)
    for mode, colour in (("sampled", _ACCENT), ("greedy", _INK)):
        mine = [evaluation for evaluation in evaluations if evaluation.mode == mode]
        points = [(evaluation.step, evaluation.success, *evaluation.ci95) for evaluation in mine]
        _whiskers(axes, points, f"held-out, {mode}", colour)
    _finish(axes, "Problems solved", percent=True)
    axes.set_ylim(0, 1.03)


def _attempts(axes: Axes, metrics: Sequence[Mapping[str, Any]], evaluations: Sequence[Evaluation]) -> None:
    """Accuracy of the first and the last attempt, every answer refined."""
    rows = [(evaluation.step, evaluation.refine) for evaluation in evaluations if evaluation.mode == "sampled"]
    refined = [(step, row) for step, row in rows if row is not None]
    last = max([2, *(last_turn(row) for _, row in refined)])
    for turn, colour in ((1, _TRAINING), (last, _ACCENT)):
        name = f"accuracy_t{turn}"
        _line(axes, metrics, f"refine/{name}", f"attempt {turn}, training problems", colour)
        known = [
            (step, row[name], row[f"{name}_low"], row[f"{name}_high"]) for step, row in refined if row[name] is not None
        ]
        _whiskers(axes, known, f"attempt {turn}, held-out", colour)
    _finish(axes, "Every answer refined", percent=True)
    axes.set_ylim(0, 1.03)


def _whiskers(axes: Axes, points: Sequence[tuple[int, float, float, float]], label: str, colour: str) -> None:
    """Rates with their intervals: (step, rate, low, high)."""
    if not points:
        return
    steps, rates, lows, highs = zip(*points, strict=True)
    below = [rate - low for rate, low in zip(rates, lows, strict=True)]
    above = [high - rate for rate, high in zip(rates, highs, strict=True)]
    axes.errorbar(
        steps, rates, yerr=(below, above), label=label,
        color=colour, fmt="o:", markersize=5, linewidth=1, elinewidth=1.4, zorder=3,
    )  # fmt: skip


def _line(axes: Axes, metrics: Sequence[Mapping[str, Any]], key: str, label: str, colour: str) -> None:
    rows = [row for row in metrics if row.get(key) is not None]
    steps, values = [row["step"] for row in rows], [float(row[key]) for row in rows]
    if rows:
        axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
        axes.plot(steps, smooth(values, smoothing_window(len(values))), color=colour, linewidth=2, label=label)


def _finish(axes: Axes, title: str, percent: bool = False) -> None:
    axes.set_title(title, loc="left", fontsize=10.5, color=_INK)
    axes.set_xlabel("training step", fontsize=9, color=_MUTED)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_MUTED, labelsize=8.5, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    if percent:
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.set_ylim(bottom=0)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(frameon=False, fontsize=8.5, labelcolor=_MUTED)
