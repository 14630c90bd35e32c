"""``autorl-bench report``: the board as text that survives a pipe, a narrow terminal and an old encoding."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from autorl_bench.report import print_board
from autorl_bench.store import open_store
from tests.autorl_bench.web.demo import Demo, make_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory.mktemp("report"))


def printed(demo: Demo, encoding: str = "utf-8", flagged: bool = False, **options: object) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert print_board(demo.store, "nano_gsm", Console(file=stream, **options), flagged=flagged) == 1
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


def line(text: str, agent: str) -> str:
    return next(line for line in text.splitlines() if agent in line)


def test_a_pipe_gets_every_column_on_one_line_an_agent(demo: Demo):
    text = printed(demo, width=80)
    assert line(text, "rdagent").split()[:8] == ["=1", "rdagent", "85.0", "45.0", "+40.0", "[+36.2,", "+44.1]", "1.09"]
    for shown in ("+28.9", "7 min 4 s, 12 min 43 s CPU, 1.1 GiB, 17,200 tokens", "kernel", "3 / 0 / 0 / 0"):
        assert shown in line(text, "rdagent")
    assert "\x1b" not in text and "…" not in text


def test_agents_without_a_rank_are_told_why(demo: Demo):
    text = printed(demo)
    assert line(text, "random_search").split()[0] == "-"
    assert "random_search has no rank: 1 of 3 runs flagged" in text and "= tied" in text


def test_flagged_runs_can_be_counted(demo: Demo):
    assert "79.0" not in printed(demo) and "79.0" in line(printed(demo, flagged=True), "random_search")


@pytest.mark.parametrize("width", [60, 90, 120, 200])
def test_a_terminal_is_never_overrun(demo: Demo, width: int):
    text = printed(demo, force_terminal=True, color_system=None, width=width)
    table = [line for line in text.splitlines() if "[" in line and "wider" not in line]
    assert max(map(len, table)) <= width and "+40.0 [+36.2, +44.1]" in line(text, "rdagent")
    assert ("a wider terminal also shows" in text) == (width < 200)


def test_a_terminal_without_unicode_is_no_error(demo: Demo):
    assert "+40.0 [+36.2, +44.1]" in printed(demo, encoding="ascii")


def test_a_name_with_markup_and_codes_is_printed_as_words(tmp_path):
    demo = Demo(tmp_path)
    for seed in (1, 2):
        demo.score(demo.start("[red]x\x1b[31m 漢", seed), 60)
    assert "[red]x 漢" in printed(demo) and "[red]x ?" in printed(demo, encoding="ascii")
    demo.store.close()


def test_a_scenario_without_runs_says_so(tmp_path):
    console = Console(file=io.StringIO())
    with open_store(tmp_path / "store.db") as store:
        assert print_board(store, "nano_gsm", console) == 0
    assert "nano_gsm: no runs yet" in console.file.getvalue()
