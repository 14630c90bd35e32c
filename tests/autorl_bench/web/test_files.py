"""Files on a run's page: bounded, no link followed, nothing outside the run's own folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autorl_bench.web.files import FileLimits, RunFiles, ShownFile

RUN = "nano_gsm_1-a"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "workspace" / RUN / "code").mkdir(parents=True)
    (tmp_path / "log" / RUN / "agent-1").mkdir(parents=True)
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "secret").write_text("SECRET")
    (tmp_path / "workspace" / RUN / "code" / "train.py").write_text("print(1)")
    return tmp_path


def only(shown: list[ShownFile]) -> ShownFile:
    (one,) = shown
    return one


def test_a_file_and_a_folder_are_shown_as_an_agent_names_them(home: Path):
    files = RunFiles(home, RUN)
    for path in ("code/train.py", "code", f"workspace/{RUN}/code", str(home / "workspace" / RUN / "code")):
        assert files.read(path) == [ShownFile("code/train.py", "print(1)")]


@pytest.mark.parametrize(
    "path", ["../../vault/secret", "/etc/passwd", "workspace/other/code", "", ".", "a\x00b", "code/.."]
)
def test_what_lies_outside_is_not_shown(home: Path, path: str):
    shown = only(RunFiles(home, RUN).read(path))
    assert shown.text == "" and shown.note


@pytest.mark.parametrize("linked", ["file", "folder", "hard"])
def test_links_are_not_followed(home: Path, linked: str):
    code, secret = home / "workspace" / RUN / "code", home / "vault" / "secret"
    if linked == "file":
        (code / "link").symlink_to(secret)
    elif linked == "hard":
        os.link(secret, code / "link")
    else:
        (code / "link").symlink_to(secret.parent)
    path = "code/link/secret" if linked == "folder" else "code/link"
    assert "link" in only(RunFiles(home, RUN).read(path)).note
    assert all("SECRET" not in shown.text for shown in RunFiles(home, RUN).read("code"))


def test_a_workspace_that_is_a_link_is_not_followed(home: Path):
    (home / "workspace" / "r").symlink_to(home / "vault")
    assert only(RunFiles(home, "r").read("secret")).text == ""


def test_a_pipe_is_not_waited_for(home: Path):
    os.mkfifo(home / "workspace" / RUN / "code" / "pipe")
    assert "not a regular file" in only(RunFiles(home, RUN).read("code/pipe")).note


def test_a_long_file_shows_its_beginning_and_a_long_log_its_end(home: Path):
    (home / "workspace" / RUN / "long").write_text("a" * 50 + "z" * 50)
    files = RunFiles(home, RUN, FileLimits(file_bytes=10))
    assert only(files.read("long")) == ShownFile("long", "a" * 10, "the first 10 of 100 bytes")
    assert only(files.read("long", end=True)) == ShownFile("long", "z" * 10, "the last 10 of 100 bytes")


def test_all_files_of_a_page_share_one_bound(home: Path):
    files = RunFiles(home, RUN, FileLimits(total_bytes=10))
    assert [only(files.read("code/train.py")).text for _ in range(3)] == ["print(1)", "pr", ""]


def test_a_folder_shows_so_many_files_and_is_walked_so_far(home: Path):
    code = home / "workspace" / RUN / "code"
    for n in range(30):
        (code / f"d{n:02}").mkdir()
        (code / f"d{n:02}" / "f").write_text("x")
    assert [shown.note for shown in RunFiles(home, RUN).read("code")][-1] == "more than 24 files"
    assert len(RunFiles(home, RUN, FileLimits(folders=5)).read("code")) == 5


def test_what_is_no_text_is_not_shown(home: Path):
    (home / "workspace" / RUN / "w").write_bytes(b"\x00\x01")
    assert only(RunFiles(home, RUN).read("w")) == ShownFile("w", "", "2 bytes, not a text")


def test_output_of_the_jobs_is_shown_where_there_is_some(home: Path):
    (home / "log" / RUN / "agent-1" / "stdout.log").write_text("hello")
    (home / "log" / RUN / "agent-1" / "stderr.log").write_text("")
    (home / "log" / RUN / "agent-1" / "record.json").write_text("{}")
    assert RunFiles(home, RUN).logs() == [ShownFile("agent-1/stdout.log", "hello")]


def test_folders_that_are_gone_show_nothing(home: Path):
    files = RunFiles(home, "other")
    assert files.logs() == [] and only(files.read("code/x")).note


@pytest.mark.parametrize("run_id", ["../vault", "a/b", "", ".."])
def test_an_id_that_could_name_another_folder_is_refused(home: Path, run_id: str):
    with pytest.raises(ValueError, match="no id"):
        RunFiles(home, run_id)
