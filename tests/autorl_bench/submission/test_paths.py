"""From the path in a request to a folder inside the workspace, and nowhere else."""

import os
import socket
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autorl_bench.submission.paths import open_file, open_folder, parts_inside
from autorl_bench.submission.reasons import SubmissionRefused

WORKSPACE = Path("/bench/workspace/nano_1")
NAMES = st.sampled_from(["..", ".", "", "workspace", "nano_1", "bench", "output", "model", "x y", "é", "...", "~"])
PATHS = st.one_of(
    st.text(), st.lists(NAMES, max_size=8).map("/".join), st.lists(NAMES).map(lambda n: "/" + "/".join(n))
)


@settings(deadline=None)
@given(PATHS)
def test_whatever_the_path_it_is_refused_or_stays_below_the_workspace(path):
    try:
        parts = parts_inside(path, WORKSPACE)
    except SubmissionRefused:
        return
    joined = os.path.normpath(WORKSPACE.joinpath(*parts))
    assert PurePosixPath(joined).is_relative_to(WORKSPACE) and joined != str(WORKSPACE)
    assert not {"", ".", ".."} & set(parts) and not any("/" in part or "\0" in part for part in parts)


@pytest.mark.parametrize(
    "path", ["output/model", "workspace/nano_1/output/model", "/bench/workspace/nano_1/output/model"]
)
def test_three_spellings_name_the_same_folder(path):
    assert parts_inside(path, WORKSPACE) == ("output", "model")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../nano_2/output/model", "outside_workspace"),
        ("output/../../nano_2", "outside_workspace"),
        ("workspace/nano_2/output/model", "outside_workspace"),
        ("/etc", "outside_workspace"),
        ("/bench/workspace/nano_10/output", "outside_workspace"),
        ("", "bad_path"),
        (".", "bad_path"),
        ("workspace/nano_1", "bad_path"),
        ("output\0model", "bad_path"),
        ("output\nmodel", "bad_path"),
        ("\udcff", "bad_path"),
        ("x" * 300, "bad_path"),
        ("x/" * 3000, "bad_path"),
    ],
)
def test_each_wrong_path_has_its_reason(path, code):
    with pytest.raises(SubmissionRefused) as refused:
        parts_inside(path, WORKSPACE)
    assert refused.value.code == code


@settings(deadline=None)
@given(st.integers(0, 2), st.sampled_from(["file", "absolute", "up"]))
def test_a_link_anywhere_on_the_way_is_refused(tmp_path_factory, depth, kind):
    workspace = tmp_path_factory.mktemp("workspace")
    parts = ("a", "b", "c")
    real = workspace / "elsewhere"
    real.joinpath(*parts[depth + 1 :]).mkdir(parents=True)
    target = {"file": "elsewhere", "absolute": str(real), "up": "../" * depth + "elsewhere"}[kind]
    above = workspace.joinpath(*parts[:depth])
    above.mkdir(parents=True, exist_ok=True)
    (above / parts[depth]).symlink_to(target)
    with pytest.raises(SubmissionRefused) as refused, open_folder(workspace, parts):
        pass
    assert refused.value.code == "link"


def test_the_workspace_itself_may_not_have_become_a_link(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "workspace").symlink_to("other")
    with pytest.raises(OSError), open_folder(tmp_path / "workspace", ("model",)):
        pass


def test_what_is_open_is_the_folder_and_not_its_name(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "f").write_text("first")
    with open_folder(tmp_path, ("model",)) as folder:
        (tmp_path / "model").rename(tmp_path / "old")
        (tmp_path / "model").symlink_to("/etc")
        with open_file(folder, "f") as file:
            assert os.read(file, 10) == b"first"


def _fifo(path):
    os.mkfifo(path)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path is short
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def _symlink(path):
    (path.parent / "real").write_text("x")
    path.symlink_to("real")


def _hard_link(path):
    (path.parent / "real").write_text("x")
    path.hardlink_to(path.parent / "real")


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_fifo, "special_file"),
        (_socket, "special_file"),
        (_symlink, "link"),
        (_hard_link, "link"),
        (Path.mkdir, "special_file"),
    ],
)
def test_only_a_regular_file_with_one_name_is_opened(tmp_path, make, code):
    make(tmp_path / "model.safetensors")
    with (
        open_folder(tmp_path.parent, (tmp_path.name,)) as folder,
        pytest.raises(SubmissionRefused) as refused,
        open_file(folder, "model.safetensors"),
    ):
        pass
    assert refused.value.code == code
