"""Photographs a report in headless Chromium: desktop and phone width, light and dark.

    python scripts/screenshots.py saved_experiments/NAME/report.html OUT_FOLDER

Needs the Python package playwright and Debian's chromium (``apt-get install chromium``); no browser is downloaded.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

WIDTHS = {"desktop": 1280, "phone": 390}
SCHEMES = ("light", "dark")


def photograph(page_file: Path, out: Path, chromium: str, full_page: bool = True) -> list[Path]:
    """Takes one picture a width and colour scheme; returns their paths."""
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    pictures = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for device, width in WIDTHS.items():
            for scheme in SCHEMES:
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                page.goto(page_file.resolve().as_uri())
                picture = out / f"{page_file.stem}_{device}_{scheme}.png"
                page.screenshot(path=picture, full_page=full_page)
                pictures.append(picture)
                page.close()
        browser.close()
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="the HTML file")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="path of the browser (default: from PATH)")
    arguments = parser.parse_args()
    if arguments.chromium is None:
        parser.error("no chromium found; apt-get install chromium, or give --chromium PATH")
    for picture in photograph(arguments.page, arguments.out, arguments.chromium):
        print(picture)


if __name__ == "__main__":
    main()
