"""Photographs the board in headless Chromium, filled with the invented runs of the tests.

    python -m scripts.screenshots_bench docs/autorl_bench/images

Needs the Python package playwright and Debian's chromium (``apt-get install chromium``); no browser is downloaded.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from autorl_bench.scenarios import ScenarioRegistry
from autorl_bench.web.export import export
from tests.autorl_bench.web.demo import make_demo


@dataclass(frozen=True)
class Picture:
    """A page, the size of the window, and how far down the picture reaches."""

    name: str
    page: str
    width: int
    height: int
    scheme: str = "light"


PICTURES = (
    Picture("leaderboard", "boards/nano_gsm.html", 1280, 1220),
    Picture("leaderboard_phone", "boards/nano_gsm.html", 390, 800),
    Picture("run", "board-runs/nano_gsm_20270115-001000-0001.html", 1280, 1560),
    Picture("run_flagged", "board-runs/nano_gsm_20270115-007000-0007.html", 1280, 520),
)


def photograph(board: Path, out: Path, chromium: str) -> list[Path]:
    """Takes the pictures of an exported board; returns their paths."""
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    taken = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for picture in PICTURES:
            size = {"width": picture.width, "height": picture.height}
            page = browser.new_page(viewport=size, color_scheme=picture.scheme)
            page.goto((board / picture.page).resolve().as_uri())
            taken.append(out / f"{picture.name}.png")
            page.screenshot(path=taken[-1])
            page.close()
        browser.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="path of the browser (default: from PATH)")
    arguments = parser.parse_args()
    if arguments.chromium is None:
        parser.error("no chromium found; apt-get install chromium, or give --chromium PATH")
    with TemporaryDirectory() as folder:
        demo = make_demo(Path(folder) / "bench")
        index = export(demo.store, ScenarioRegistry(), demo.home, Path(folder) / "board")
        for picture in photograph(index.parent, arguments.out, arguments.chromium):
            print(picture)
        demo.store.close()


if __name__ == "__main__":
    main()
