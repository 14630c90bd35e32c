"""Line charts as inline SVG: drawn by us, coloured by the page's style sheet, readable at any width."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from markupsafe import Markup

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 12, 28


@dataclass(frozen=True, slots=True)
class Series:
    """A line: ``style`` names its CSS class; behind it faintly ``raw`` (before smoothing) and ``band`` (low, high)."""

    name: str
    style: str
    x: Sequence[float]
    y: Sequence[float]
    raw: Sequence[float] = ()
    band: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class Points:
    """Measured points with an interval each, joined by a thin line; ``shift`` in pixels keeps whiskers apart."""

    name: str
    style: str
    x: Sequence[float]
    y: Sequence[float]
    intervals: Sequence[tuple[float, float]]
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class Chart:
    """One set of axes. ``percent`` writes the y axis in percent."""

    title: str
    series: Sequence[Series]
    points: Sequence[Points] = field(default_factory=tuple)
    y_range: tuple[float, float] = (0.0, 1.0)
    percent: bool = True

    @property
    def items(self) -> list[Series | Points]:
        """Everything that is drawn."""
        return [*self.series, *self.points]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Trailing mean over the last ``window`` values; no value from the future enters."""
    return [fmean(values[max(0, index + 1 - window) : index + 1]) for index in range(len(values))]


def smoothing_window(steps: int) -> int:
    """A tenth of the run, at least 1 step and at most 25."""
    return max(1, min(25, steps // 10))


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers inside ``low..high``, about ``count`` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** _exponent(rough)
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = -int(-low // step)
    values = [round(index * step, 10) for index in range(first, first + 2 * count + 3)]
    return [value for value in values if low - 1e-9 <= value <= high + 1e-9]


def _exponent(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])


@dataclass(frozen=True, slots=True)
class _Frame:
    """Maps data to pixels."""

    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / ((high - low) or 1) * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        inside = min(max(value, low), high)
        return self.height - _BOTTOM - (inside - low) / ((high - low) or 1) * (self.height - _TOP - _BOTTOM)

    def path(self, x: Sequence[float], y: Sequence[float]) -> str:
        pairs = zip(x, y, strict=True)
        return "M" + "L".join(f"{self.x(a):.1f} {self.y(b):.1f}" for a, b in pairs)


def svg(chart: Chart, width: int, height: int) -> Markup:
    """``chart`` as one ``<svg>`` element of ``width`` x ``height`` units, with what a hover needs in ``data-chart``."""
    everything = [value for item in chart.items for value in item.x]
    frame = _Frame(width, height, (0, max(everything, default=1)), chart.y_range)
    parts = [*_axes(chart, frame), *(part for series in chart.series for part in _line(series, frame))]
    parts += [part for points in chart.points for part in _dots(points, frame)]
    label = Markup('<line class="cross" y1="{}" y2="{}"/>').format(_TOP, height - _BOTTOM)
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}" data-chart="{}">{}</svg>').format(
        width, height, chart.title, _hover_data(chart, frame), Markup("").join([*parts, label])
    )


def _axes(chart: Chart, frame: _Frame) -> list[Markup]:
    grid = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/><text x="{}" y="{:.1f}">{}</text>')
    parts = []
    for value in ticks(*chart.y_range, count=4):
        y = frame.y(value)
        text = f"{100 * value:.0f} %" if chart.percent else f"{value:g}"
        parts.append(grid.format(_LEFT, frame.width - _RIGHT, y, y, _LEFT - 7, y + 4, text))
    below = Markup('<text class="x" x="{:.1f}" y="{}">{}</text>')
    for value in ticks(*frame.x_range, count=frame.width // 110):
        parts.append(below.format(frame.x(value), frame.height - 8, f"{value:g}"))
    return parts


def _line(series: Series, frame: _Frame) -> list[Markup]:
    if not series.x:
        return []
    parts = []
    if series.band:
        there, back = frame.path(series.x, [low for low, _ in series.band]), [high for _, high in series.band][::-1]
        outline = f"{there}L{frame.path(series.x[::-1], back)[1:]}Z"
        parts.append(Markup('<path class="band {}" d="{}"/>').format(series.style, outline))
    if series.raw:
        parts.append(Markup('<path class="raw {}" d="{}"/>').format(series.style, frame.path(series.x, series.raw)))
    parts.append(Markup('<path class="line {}" d="{}"/>').format(series.style, frame.path(series.x, series.y)))
    return parts


def _dots(points: Points, frame: _Frame) -> list[Markup]:
    if not points.x:
        return []
    parts = [Markup('<path class="join {}" d="{}"/>').format(points.style, frame.path(points.x, points.y))]
    whisker = Markup('<path class="whisker {}" d="M{:.1f} {:.1f}V{:.1f}"/>')
    dot = Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="4"/>')
    for x, y, (low, high) in zip(points.x, points.y, points.intervals, strict=True):
        at = frame.x(x) + points.shift
        parts.append(whisker.format(points.style, at, frame.y(low), frame.y(high)))
        parts.append(dot.format(points.style, at, frame.y(y)))
    return parts


def _hover_data(chart: Chart, frame: _Frame) -> str:
    rows = [{"name": item.name, "x": list(item.x), "y": [round(value, 4) for value in item.y]} for item in chart.items]
    plot = [_LEFT, frame.width - _RIGHT, *frame.x_range]
    return json.dumps({"plot": plot, "percent": chart.percent, "rows": rows})
