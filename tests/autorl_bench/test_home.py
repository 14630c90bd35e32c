"""The benchmark's folder: the names in it, and who may look where."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from astune.errors import CheckpointError
from autorl_bench.home import Home

RUN = "gsm8k_20260101-120000-abcd"


def made(folder: Path) -> Home:
    home = Home(folder)
    home.make()
    return home


def test_folders_have_the_names_of_the_interface(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.workspace(RUN) == tmp_path / "workspace" / RUN
    assert home.feedback(RUN) == tmp_path / "results" / RUN / "feedback.json"
    assert home.log(RUN) == tmp_path / "log" / RUN


def test_making_it_twice_changes_nothing(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "results" / "mine").write_text("kept")
    made(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["assets", "log", "results", "vault", "workspace"]
    assert (tmp_path / "results" / "mine").read_text() == "kept"


def test_the_vault_is_closed_to_other_users_even_where_it_was_open(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir(mode=0o755)
    home = made(tmp_path)
    assert stat.S_IMODE(home.vault.stat().st_mode) == 0o700


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "bench").write_text("not a folder")
    with pytest.raises(CheckpointError, match=str(tmp_path / "bench")):
        made(tmp_path / "bench")


def test_processes_that_ask_for_the_key_at_once_get_the_same_one(tmp_path: Path) -> None:
    made(tmp_path)
    programme = "import sys, pathlib; from autorl_bench.home import Home; print(Home(pathlib.Path(sys.argv[1])).key())"
    processes = [
        subprocess.Popen([sys.executable, "-c", programme, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = {process.communicate()[0].strip() for process in processes}
    assert len(said) == 1
    assert len(said.pop()) == 64
    assert [path.name for path in (tmp_path / "vault").iterdir()] == ["secret.key"]


def test_the_key_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    home = made(tmp_path)
    home.key()
    assert stat.S_IMODE((home.vault / "secret.key").stat().st_mode) == 0o600
    assert (home.vault / "secret.key").stat().st_uid == os.getuid()


def test_runs_of_equal_draw_and_seed_get_equal_hidden_items(tmp_path: Path) -> None:
    home = made(tmp_path)
    assert home.test_seed("tiny", "draw", 1) == home.test_seed("tiny", "draw", 1)


def test_scenario_draw_seed_and_vault_each_change_the_hidden_items(tmp_path: Path) -> None:
    home, other = made(tmp_path / "one"), made(tmp_path / "other")
    seeds = [
        home.test_seed("tiny", "draw", 1),
        home.test_seed("small", "draw", 1),
        home.test_seed("tiny", "drawn", 1),
        home.test_seed("tiny", "draw", 2),
        other.test_seed("tiny", "draw", 1),
    ]
    assert len(set(seeds)) == len(seeds)
