from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from astune.report.cases import Case
from astune.report.html import ReportData, load_report_data, render_report, write_report
from astune.report.run_folder import RunFolder
from astune.task_reader.types import Task
from astune.trace import Episode, StopReason, Trajectory, Turn, Verdict
from tests.report.demo import decode, make_episode, make_task

EVIL = "</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Start tags with their attributes, and the text inside each tile."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @property
    def tiles(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "span" and "data-id" in attributes]


@pytest.fixture(scope="module")
def data(demo_run: RunFolder) -> ReportData:
    return load_report_data(demo_run)


@pytest.fixture(scope="module")
def page(demo_run: RunFolder) -> Page:
    return Page(demo_run.report.read_text(encoding="utf-8"))


def evil_data() -> ReportData:
    turn = Turn([1], [2], [-0.5], StopReason.EOS)
    episode = Episode(
        EVIL, 0, [Trajectory([1, 2], [0, 1], [0.0, -0.5], [turn])], error=EVIL, verdict=Verdict(1.0, True)
    )
    task = Task(EVIL, EVIL, EVIL)
    case = Case(EVIL, task, episode, episode)
    row = {"step": 1, "reward_mean": 0.5, "loss": EVIL}
    return ReportData(EVIL, None, EVIL, [row], [], [], [case])


def test_page_loads_nothing_from_anywhere(page: Page):
    loads = [value for _, attributes in page.tags for name, value in attributes.items() if name in {"src", "href"}]
    assert loads == ["data:,"]


def test_page_names_no_remote_address(demo_run: RunFolder):
    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}|@import|url\(", demo_run.report.read_text()) == []


def test_every_token_of_every_case_is_a_tile(data: ReportData, page: Page):
    trajectories = [
        trajectory
        for case in data.cases
        for episode in (case.before, case.after)
        for trajectory in episode.trajectories
    ]
    assert [int(tile["data-id"] or -1) for tile in page.tiles] == [id_ for t in trajectories for id_ in t.ids]


def test_exactly_the_trained_tiles_have_a_logprob(data: ReportData, page: Page):
    expected = [
        f"{logprob:.4f}" if mask else None
        for case in data.cases
        for episode in (case.before, case.after)
        for trajectory in episode.trajectories
        for mask, logprob in zip(trajectory.loss_mask, trajectory.logprobs, strict=True)
    ]
    assert [tile.get("data-lp") for tile in page.tiles] == expected


def test_summary_numbers_are_on_the_page(data: ReportData, demo_run: RunFolder):
    assert data.summary is not None
    text = demo_run.report.read_text()
    for key in ("success_before", "success_after", "greedy_before", "greedy_after"):
        assert f"{100 * data.summary[key]:.1f} %" in text


def test_whatever_a_model_or_task_wrote_is_escaped():
    text = render_report(evil_data(), lambda _: EVIL)
    tags = Page(text).tags
    assert [attributes for tag, attributes in tags if tag == "img" or "onerror" in attributes] == []
    assert text.count("</script>") == 1
    assert len(Page(text).tiles) == 4


def test_configuration_is_shown_as_written(data: ReportData):
    assert "<pre>a: &lt;b&gt;\n</pre>" in render_report(replace(data, config="a: <b>\n"), decode)


def test_impossible_token_has_a_finite_shade():
    turn = Turn([1], [2], [-float("inf")], StopReason.EOS)
    episode = Episode("t", 0, [Trajectory([1, 2], [0, 1], [0.0, -float("inf")], [turn])])
    case = Case("c", Task("t", "q", "1"), episode, episode)
    text = render_report(replace(evil_data(), cases=[case]), lambda _: "a")
    assert 'class="t s4" data-n="1" data-id="2" data-lp="-inf"' in text


def test_run_that_has_not_ended_has_a_page(tmp_path: Path):
    folder = RunFolder("unfinished", tmp_path).create()
    folder.append_metrics(1, {"reward_mean": 0.5, "success_rate": 0.25})
    write_report(folder, decode)
    assert "This run has not ended: 1 steps so far." in folder.report.read_text()


@pytest.fixture
def untrained(tmp_path: Path) -> RunFolder:
    """Fourteen episodes and nothing else, one of them failed."""
    folder = RunFolder("untrained", tmp_path).create()
    tasks = [make_task(index) for index in range(14)]
    made = [make_episode(task, 0, None, 1.0, seed=0) for task in tasks]
    made[13].stop_reason, made[13].error, made[13].traceback = "timeout", "took too long", "at <there>"
    folder.write_episodes(0, made, tasks)
    return folder


def test_episodes_without_training_are_shown_as_tiles(untrained: RunFolder):
    write_report(untrained, decode)
    _, episodes = untrained.read_newest_episodes()
    shown = [id_ for episode in (episodes[13], *episodes[:11]) for id_ in episode.trajectories[0].ids]
    assert [int(tile["data-id"] or -1) for tile in Page(untrained.report.read_text()).tiles] == shown


def test_episodes_without_training_show_problem_outcome_and_failure(untrained: RunFolder):
    write_report(untrained, decode)
    text = untrained.report.read_text()
    for words in (
        "14 episodes. Nothing was trained.",
        "14 episodes: 13 solved, 1 timeout.\nShown are 12, those that failed first. Each block",
        make_task(13).main_query,
        f"reference answer {make_task(13).answer}",
        "took too long",
        "<pre>at &lt;there&gt;</pre>",
    ):
        assert words in text


def test_a_run_with_cases_shows_no_other_episodes(data: ReportData):
    assert (len(data.cases) > 0, data.episodes) == (True, [])


def test_run_that_has_not_begun_has_a_page(tmp_path: Path):
    folder = RunFolder("empty", tmp_path).create()
    write_report(folder, decode)
    assert "This run has not ended" in folder.report.read_text()


def test_the_same_run_folder_gives_the_same_page(data: ReportData, demo_run: RunFolder):
    assert render_report(data, decode) == demo_run.report.read_text(encoding="utf-8")
