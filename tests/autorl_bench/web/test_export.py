"""The board as a folder: whole or absent, links that lead to files, nothing of ours overwritten by mistake."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

import pytest

from astune.errors import CheckpointError, UserError
from autorl_bench.scenarios import ScenarioRegistry
from autorl_bench.web import export as export_module
from autorl_bench.web.export import export
from tests.autorl_bench.web.demo import SECRET, Demo
from tests.autorl_bench.web.test_pages import Parsed


@pytest.fixture(scope="module")
def folder(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("export") / "board"
    assert export(demo.store, ScenarioRegistry(), demo.home, target) == target / "index.html"
    return target


def test_every_link_leads_to_a_file_or_a_place_on_a_page(folder: Path):
    pages = {path: Parsed(path.read_text()) for path in folder.rglob("*.html")}
    assert len(pages) == 1 + 4 + 4 + 13
    for path, page in pages.items():
        for link in page.attributes("href"):
            name, _, place = link.partition("#")
            target = (path.parent / unquote(name)).resolve() if name else path
            if name != "data:,":
                assert target.is_file(), f"{link} on {path.name}"
            if place:
                assert place in pages[target].attributes("id"), f"{link} on {path.name}"


def test_the_leaderboards_are_there_as_json(folder: Path):
    assert json.loads((folder / "boards" / "nano_gsm.json").read_text())["scenario"] == "nano_gsm"


def test_nothing_hidden_is_exported(folder: Path):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_an_earlier_export_is_replaced(empty: Demo):
    target = empty.home / "board"
    export(empty.store, ScenarioRegistry(), empty.home, target)
    empty.score(empty.start("rdagent", 1), 60)
    export(empty.store, ScenarioRegistry(), empty.home, target)
    assert len(list((target / "board-runs").iterdir())) == 1
    assert [path.name for path in empty.home.iterdir() if path.name.startswith(".writing")] == []


def test_what_is_no_export_is_left_alone(empty: Demo):
    (empty.home / "precious").mkdir()
    (empty.home / "precious" / "file").write_text("mine")
    (empty.home / "link").symlink_to(empty.home / "precious")
    for name in ("precious", "precious/file", "link"):
        with pytest.raises(UserError, match="no exported board"):
            export(empty.store, ScenarioRegistry(), empty.home, empty.home / name)
    assert (empty.home / "precious" / "file").read_text() == "mine"


def test_an_export_that_fails_leaves_the_earlier_one(empty: Demo, monkeypatch: pytest.MonkeyPatch):
    target = empty.home / "board"
    export(empty.store, ScenarioRegistry(), empty.home, target)
    before = (target / "index.html").read_bytes()

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, "fsync", full)
    with pytest.raises(CheckpointError, match="no space left"):
        export(empty.store, ScenarioRegistry(), empty.home, target)
    assert (target / "index.html").read_bytes() == before
    assert [path.name for path in empty.home.iterdir() if path.name.startswith(".writing")] == []
