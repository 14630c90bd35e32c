"""The report in a real browser. Skipped where there is none: it is a check of the page, not of the machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from astune.report.run_folder import RunFolder

playwright_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("needs chromium (apt-get install chromium)", allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright_api.Browser]:
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def page(browser: playwright_api.Browser, demo_run: RunFolder, request: pytest.FixtureRequest):
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(demo_run.report.resolve().as_uri())
    yield page
    page.close()


def test_page_opens_without_errors(page):
    assert page.problems == []


def test_page_is_no_wider_than_the_window(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_tiles_are_visible_with_their_ids(page):
    tile = page.locator(".trace .seg.assistant .t").first
    assert tile.is_visible()
    assert page.evaluate("e => getComputedStyle(e, '::after').content", tile.element_handle()).strip('"').isdigit()


def test_pointing_at_a_trained_tile_shows_its_logprob(page):
    tile = page.locator(".trace .t[data-lp]").first
    tile.hover()
    tip = page.locator("#tip")
    assert tip.is_visible()
    assert f"log-prob {float(tile.get_attribute('data-lp')):.4f}" in tip.inner_text()


def test_pointing_at_a_masked_tile_says_so(page):
    page.locator(".trace .seg.user .t").first.hover()
    assert "masked: read, not trained" in page.locator("#tip").inner_text()


def test_pointing_at_a_curve_shows_its_values(page):
    page.locator("svg:visible").first.hover()
    assert "training problems" in page.locator("#tip").inner_text()


def test_ids_can_be_hidden(page):
    page.locator("#ids").uncheck()
    tile = page.locator(".trace .seg.assistant .t").first
    assert page.evaluate("e => getComputedStyle(e, '::after').display", tile.element_handle()) == "none"


def test_system_prompt_opens_on_a_click(page):
    tile = page.locator(".trace .seg.system .t").first
    assert not tile.is_visible()
    page.locator(".trace .seg.system summary").first.click()
    assert tile.is_visible()
