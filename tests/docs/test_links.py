"""No Markdown file of the project links to a file, or to a heading, that is not there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def pages() -> list[str]:
    """Markdown files that are part of the project: known to git, or not ignored by it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:  # an unpacked archive has no index
        parts = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
        return sorted(str(path) for path in parts if not path.parts[0].startswith((".", "saved_experiments")))
    return sorted(name for name in set(found.stdout.splitlines()) if (ROOT / name).is_file())


def links(page: Path) -> list[str]:
    """Targets inside the project: neither addresses nor what stands in code."""
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))
    text = re.sub(r"^(?: {4}|\t).*$", "", text, flags=re.MULTILINE)
    return [target for target in LINK.findall(text) if not re.match(r"[a-z][a-z0-9+.-]*:", target)]


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub forms them."""
    headings = re.findall(r"^#+ +(.*?) *#*$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead(page: Path) -> list[str]:
    """Links of a page that lead nowhere."""
    found = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", pages())
def test_every_link_leads_to_something(page: str) -> None:
    assert dead(ROOT / page) == []


def test_the_pages_that_newcomers_need_are_linked_from_the_first_one() -> None:
    reachable, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reachable or page.suffix != ".md" or not page.is_file():
            continue
        reachable.add(page)
        waiting += [(page.parent / target.partition("#")[0]).resolve() for target in links(page)]
    docs = {*(ROOT / "docs").glob("*.md"), *(ROOT / "tutorial").rglob("README.md")}
    assert sorted(str(path.relative_to(ROOT)) for path in docs - reachable) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One heading\n[a](gone.md) [b](#one-heading) [c](#another) `[d](code.md)` [e](https://x.y)\n")
    assert dead(page) == ["gone.md", "#another"]
