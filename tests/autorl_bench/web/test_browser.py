"""The board in a real browser, from files. Skipped where there is none: a check of the pages, not of the machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from autorl_bench.scenarios import ScenarioRegistry
from autorl_bench.web.export import export
from tests.autorl_bench.web.demo import Demo

playwright_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("needs chromium (apt-get install chromium)", allow_module_level=True)

PAGES = {
    "index": "index.html",
    "board": "boards/nano_gsm.html",
    "run": "board-runs/nano_gsm_20270115-001000-0001.html",
    "scenario": "board-scenarios/nano_gsm.html",
}


@pytest.fixture(scope="module")
def folder(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(demo.store, ScenarioRegistry(), demo.home, tmp_path_factory.mktemp("browser") / "board").parent


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright_api.Browser]:
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: playwright_api.Browser, folder: Path):
    """Opens a page by its name; ``problems`` collects what the console says."""
    opened = []

    def open_page(name: str, **options: object) -> playwright_api.Page:
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}} | options)
        page.problems = []
        page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda asked: page.problems.append(asked.url) if asked.url.startswith("http") else None)
        page.goto((folder / PAGES[name]).as_uri())
        opened.append(page)
        return page

    yield open_page
    for page in opened:
        page.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_a_page_opens_without_errors_and_is_no_wider_than_the_window(visit, name: str, width: int):
    page = visit(name, viewport={"width": width, "height": 900})
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.problems == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("javascript", [True, False])
def test_flagged_runs_can_be_shown_with_and_without_a_script(visit, javascript: bool):
    page = visit("board", java_script_enabled=javascript)
    agent = page.locator("table.board tr:visible", has_text="random_search")
    assert "79.0 %" not in agent.inner_text()
    page.get_by_text("with flagged runs", exact=True).click()
    assert page.locator("table.board:visible").count() == 1
    assert "79.0 %" in agent.inner_text()


def test_the_tables_are_switched_by_keyboard(visit):
    page = visit("board")
    page.locator("input.pick.without").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("input.pick.with").is_checked() and page.locator(".view.with").is_visible()


def test_the_first_key_leads_past_the_navigation(visit):
    page = visit("run")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#content"


def test_a_seed_on_the_board_leads_to_its_run(visit):
    page = visit("board")
    page.locator("table.board:visible a.seed").first.click()
    assert page.locator("h1").inner_text().startswith("nano_gsm_2027")
    page.get_by_role("link", name="AutoRL-Bench").click()
    assert "How well do agents" in page.locator("h1").inner_text()


def test_pointing_at_a_curve_shows_its_values(visit):
    page = visit("board")
    page.locator("svg[data-chart]:visible").first.hover()
    tip = page.locator("#tip")
    assert "rdagent  " in tip.inner_text() and tip.bounding_box()["height"] > 40
    page.keyboard.press("Escape")
    assert not tip.is_visible()


def test_code_and_logs_open_without_a_script(visit):
    page = visit("run", java_script_enabled=False)
    code = page.locator("details.file pre", has_text="GRPO on the base model").first
    assert not code.is_visible()
    page.locator("details.file summary", has_text="experiment_1/train.py").click()
    assert code.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["board", "run"])
def test_text_stands_out_from_its_ground(visit, scheme: str, name: str):
    page = visit(name, color_scheme=scheme)
    assert page.evaluate(CONTRAST) == []


#: Visible text whose colour has a contrast below 4.5 (WCAG 2, AA) with the nearest ground that is not transparent.
CONTRAST = """() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const colour = numbers(getComputedStyle(element).backgroundColor);
    return colour.length < 4 || colour[3] ? colour : ground(element.parentElement);
  };
  const contrast = (element) => {
    const pair = [light(numbers(getComputedStyle(element).color)), light(ground(element))];
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  };
  const hasWords = (element) => [...element.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
  const shown = (element) => element.getClientRects().length && !element.closest("svg, script, style, .hide, .skip");
  return [...document.querySelectorAll("body *")]
    .filter((element) => hasWords(element) && shown(element) && contrast(element) < 4.5)
    .map((element) => element.className + ": " + element.textContent.slice(0, 30));
}"""
