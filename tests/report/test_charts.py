from __future__ import annotations

import json
import re
from html import unescape
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from astune.report.charts import Chart, Points, Series, smooth, svg, ticks

values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


@given(values, st.integers(1, 30))
def test_smoothing_never_looks_ahead(numbers: list[float], window: int):
    half = len(numbers) // 2 + 1
    assert smooth(numbers, window)[:half] == smooth(numbers[:half], window)


def test_smoothing_is_the_mean_of_the_last_values():
    assert smooth([1.0, 2.0, 3.0, 6.0], 2) == [1.0, 1.5, 2.5, 4.5]


@given(st.floats(-100, 100), st.floats(0.01, 1000), st.integers(2, 10))
def test_ticks_are_few_and_inside(low: float, span: float, count: int):
    found = ticks(low, low + span, count)
    assert len(found) <= 2 * count + 1
    assert all(low - 1e-6 <= value <= low + span + 1e-6 for value in found)


def test_ticks_are_round_numbers():
    assert ticks(0, 1, 4) == [0, 0.25, 0.5, 0.75, 1.0]


def test_svg_is_well_formed_and_escapes_names():
    series = Series('<b>"x"&', "reward", [1, 2], [0.5, 0.7], [0.5, 0.9])
    points = Points("held-out", "sampled", [0, 2], [0.1, 0.9], [(0.0, 0.2), (0.8, 1.0)])
    root = ElementTree.fromstring(svg(Chart("A < B", [series], [points]), 360, 200))
    assert root.get("aria-label") == "A < B"


def test_hover_data_holds_every_series_with_its_values():
    drawn = svg(Chart("t", [Series("reward", "reward", [1, 2], [0.5, 0.7])]), 360, 200)
    match = re.search(r'data-chart="([^"]*)"', drawn)
    assert match is not None
    assert json.loads(unescape(match[1]))["rows"] == [{"name": "reward", "x": [1, 2], "y": [0.5, 0.7]}]


def test_chart_without_data_is_still_a_chart():
    ElementTree.fromstring(svg(Chart("empty", [Series("a", "a", [], [])]), 360, 200))


def test_a_band_is_drawn_behind_its_line():
    chart = Chart("Score", [Series("mean", "a0", [0, 1], [0.4, 0.6], band=[(0.3, 0.5), (0.5, 0.7)])])
    drawn = svg(chart, 400, 200)
    assert drawn.index('class="band a0"') < drawn.index('class="line a0"') and drawn.count("Z") == 1
