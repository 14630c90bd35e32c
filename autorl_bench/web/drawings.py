"""What the board draws: intervals beside numbers, curves of score against budget; inline SVG, no style attributes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from astune.report import charts
from autorl_bench.leaderboard import Curve, Estimate, Row
from autorl_bench.web.boards import Board
from autorl_bench.web.run_view import RunView

_WIDE, _NARROW = (1040, 320), (360, 250)
_COLOURS = 8
#: Pixels of an interval's drawing.
_WIDTH, _HEIGHT, _MARGIN = 240, 26, 10


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart in the two sizes among which the style sheet chooses; ``legend`` is style and name."""

    title: str
    legend: list[tuple[str, str]]
    wide: Markup
    narrow: Markup


@dataclass(frozen=True, slots=True)
class Scale:
    """The axis that all intervals of a table share; 0 is always on it."""

    low: float
    high: float

    @classmethod
    def of(cls, estimates: Iterable[Estimate | None]) -> Scale:
        """Holds every interval; round numbers at both ends."""
        ends = [end for one in estimates if one for end in (one.low, one.high) if math.isfinite(end)]
        low, high = min([0.0, *ends]), max([0.0, *ends])
        step = (charts.ticks(0, max(high - low, 1.0), 4) or [0, 1])[1]
        return cls(math.floor(low / step) * step, max(math.ceil(high / step), 1) * step)

    def x(self, value: float) -> float:
        """Pixels from the left."""
        inside = min(max(value, self.low), self.high)
        return _MARGIN + (inside - self.low) / (self.high - self.low) * (_WIDTH - 2 * _MARGIN)

    def ticks(self) -> list[float]:
        """Round numbers on the axis."""
        return charts.ticks(self.low, self.high, 4)


def interval(estimate: Estimate | None, scale: Scale) -> Markup:
    """An estimate with its 95 % interval; what it says in words stands beside it, so that it is hidden from readers."""
    middle = _HEIGHT / 2
    parts = [
        Markup('<path class="{}" d="M{:.1f} 0V{}"/>').format("zero" if value == 0 else "tick", scale.x(value), _HEIGHT)
        for value in scale.ticks()
    ]
    if estimate is not None:
        low, high = scale.x(estimate.low), scale.x(estimate.high)
        ends = (
            f"M{low:.1f} {middle - 5}V{middle + 5}M{low:.1f} {middle}H{high:.1f}M{high:.1f} {middle - 5}V{middle + 5}"
        )
        parts.append(Markup('<path class="reach" d="{}"/>').format(ends))
        parts.append(Markup('<circle cx="{:.1f}" cy="{}" r="4.5"/>').format(scale.x(estimate.mean), middle))
    side = {1: "gain", 0: "open", -1: "loss"}[estimate.decided if estimate else 0]
    opening = Markup('<svg class="interval {}" viewBox="0 0 {} {}" aria-hidden="true">').format(side, _WIDTH, _HEIGHT)
    return opening + Markup("").join(parts) + Markup("</svg>")


def axis(scale: Scale) -> Markup:
    """The numbers above a column of intervals."""
    label = Markup('<text class="x" x="{:.1f}" y="12">{}</text>')
    parts = [label.format(scale.x(value), f"{value:+g}".replace("-", "−") if value else "0") for value in scale.ticks()]
    opening = Markup('<svg class="interval axis" viewBox="0 0 {} 16" aria-hidden="true">').format(_WIDTH)
    return opening + Markup("").join(parts) + Markup("</svg>")


def style_of(agent: str, agents: Sequence[str]) -> str:
    """The CSS class of an agent's colour; agents beyond the colours are dashed."""
    place = agents.index(agent)
    return f"a{place % _COLOURS}" + (" dash" if place >= _COLOURS else "")


def board_chart(board: Board, rows: Sequence[Row], include_flagged: bool) -> Drawing | None:
    """A line an agent: the best dev score so far, mean over seeds, and at the right its test score."""
    drawn = [row for row in rows if row.curve is not None]
    if not drawn:
        return None
    unit, seconds = time_unit(board.wall_seconds)
    agents = sorted(row.agent for row in board.complete)
    lines, dots = [], []
    for place, row in enumerate(drawn):
        style = style_of(row.agent, agents)
        lines.append(_line(row, board.curves(row.agent, include_flagged), style, seconds))
        dots.append(_test_dot(row, style, board.wall_seconds / seconds * (1.025 + 0.022 * place)))
    chart = charts.Chart(
        title=f"Best dev score so far against wall time ({unit})",
        series=lines,
        points=dots,
        y_range=_range(lines, dots),
    )
    return _drawing(chart, [(line.style, line.name) for line in lines])


def _line(row: Row, seeds: Sequence[Curve], style: str, unit: float) -> charts.Series:
    assert row.curve is not None, "only rows with a curve are drawn"
    starts = sorted({start for one in seeds for start in one.seconds})
    bands = [(min(one.at(start) for one in seeds), max(one.at(start) for one in seeds)) for start in starts]
    x, y = _steps(
        [start / unit for start in starts], [row.curve.at(start) for start in starts], row.curve.budget / unit
    )
    _, low = _steps(starts, [band[0] for band in bands], row.curve.budget)
    _, high = _steps(starts, [band[1] for band in bands], row.curve.budget)
    band = list(zip(low, high, strict=True)) if len(seeds) > 1 else []
    return charts.Series(row.agent, style, x, y, band=band)


def _test_dot(row: Row, style: str, x: float) -> charts.Points:
    base, gain = row.baseline or 0.0, row.improvement
    reach = [(_share(base + gain.low), _share(base + gain.high))] if gain else []
    return charts.Points(
        f"{row.agent}, test", style, [x] if gain else [], [_share(row.score or 0)] if gain else [], reach
    )


def run_chart(view: RunView) -> Drawing | None:
    """A run's dev answers with their intervals, the best of them so far, the base model, and the test score."""
    answered = [answer for answer in view.answers if answer.score is not None]
    if not answered:
        return None
    budget = view.entry.wall_seconds
    unit, seconds = time_unit(budget)
    dev = next((split for split in view.splits if split.name.startswith("dev")), None)
    base = dev.baseline.percent if dev and dev.baseline else None
    best: list[float] = []
    for answer in answered:
        best.append(max([answer.score.percent if answer.score else 0.0, *best[-1:], *([] if base is None else [base])]))
    starts, levels = [answer.seconds / seconds for answer in answered], best
    if base is not None:
        starts, levels = [0.0, *starts], [base, *best]
    x, y = _steps(starts, levels, max(budget / seconds, starts[-1]))
    lines = [charts.Series("best so far", "best", x, y)]
    if base is not None:
        lines.insert(0, charts.Series("base model on dev", "base", [0.0, x[-1]], [_share(base)] * 2))
    dots = [_answers(view, seconds)]
    test = next((split.score for split in view.splits if split.name == "test"), None)
    if test is not None:
        reach = [(_share(test.low), _share(test.high))]
        dots.append(charts.Points("test score", "test", [x[-1] * 1.03], [_share(test.percent)], reach))
    title = f"Score against wall time ({unit})"
    chart = charts.Chart(title=title, series=lines, points=dots, y_range=_range(lines, dots))
    return _drawing(chart, [(item.style, item.name) for item in chart.items])


def _answers(view: RunView, unit: float) -> charts.Points:
    scores = [(answer.seconds / unit, answer.score) for answer in view.answers if answer.score is not None]
    return charts.Points(
        name="dev answers",
        style="dev",
        x=[when for when, _ in scores],
        y=[_share(score.percent) for _, score in scores],
        intervals=[(_share(score.low), _share(score.high)) for _, score in scores],
    )


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit in which a budget is best read, and its seconds."""
    if seconds >= 3 * 3600:
        return "hours", 3600.0
    return ("minutes", 60.0) if seconds >= 120 else ("seconds", 1.0)


def _steps(starts: Sequence[float], levels: Sequence[float], end: float) -> tuple[list[float], list[float]]:
    """A step function as the corners of a line; levels in percent become shares."""
    x, y = [], []
    for index, (start, level) in enumerate(zip(starts, levels, strict=True)):
        until = starts[index + 1] if index + 1 < len(starts) else max(end, start)
        x += [start, until]
        y += [_share(level)] * 2
    return x, y


def _share(percent: float) -> float:
    return percent / 100


def _range(lines: Sequence[charts.Series], dots: Sequence[charts.Points]) -> tuple[float, float]:
    """Round tenths around all that is drawn."""
    values = [value for line in lines for value in (*line.y, *(end for pair in line.band for end in pair))]
    values += [end for points in dots for pair in points.intervals for end in pair]
    low = max(math.floor(10 * min(values) - 0.2) / 10, 0.0)
    return low, max(min(math.ceil(10 * max(values) + 0.2) / 10, 1.0), low + 0.1)


def _drawing(chart: charts.Chart, legend: list[tuple[str, str]]) -> Drawing:
    return Drawing(chart.title, legend, charts.svg(chart, *_WIDE), charts.svg(chart, *_NARROW))
