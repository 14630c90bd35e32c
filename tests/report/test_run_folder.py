from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astune.errors import CheckpointError, ConfigError
from astune.report.metrics import Evaluation
from astune.report.run_folder import RunFolder
from astune.task_reader.types import Task
from astune.trace import Episode


def evaluation(step: int, mode: str = "sampled", n_solved: int = 3) -> Evaluation:
    return Evaluation(step, mode, 5, n_solved, 0, 0, 0.5, {"no_print": 0.2})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def fresh(root: Path, steps: int = 5) -> RunFolder:
    """A run of ``steps`` steps; the folder of an earlier example starts again."""
    run = RunFolder("run", root).create()
    run.truncate_after(0)
    for step in range(1, steps + 1):
        run.append_metrics(step, {"reward_mean": step / 3, "note": "é"})
        run.append_timings(step, {"seconds": 0.1})
    return run


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a\0b"])
def test_name_that_leaves_the_root_is_refused(name: str, tmp_path: Path):
    with pytest.raises(ConfigError, match="no folder name"):
        RunFolder(name, tmp_path)


def test_nothing_is_created_before_create(tmp_path: Path):
    RunFolder("run", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_root_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write .*file/run.*choose another folder"):
        RunFolder("run", tmp_path / "file").create()


def test_rows_are_read_back_in_order(tmp_path: Path):
    assert [row["step"] for row in fresh(tmp_path).read_metrics()] == [1, 2, 3, 4, 5]


def test_rows_keep_floats_to_the_bit(tmp_path: Path):
    assert fresh(tmp_path).read_metrics()[0]["reward_mean"] == 1 / 3


def test_metrics_of_two_equal_runs_are_equal_bytes(tmp_path: Path):
    a, b = fresh(tmp_path / "a"), fresh(tmp_path / "b")
    assert a.metrics.read_bytes() == b.metrics.read_bytes()


def test_number_that_json_cannot_hold_becomes_null(tmp_path: Path):
    run = RunFolder("run", tmp_path).create()
    run.append_metrics(1, {"loss": float("nan")})
    assert run.read_metrics() == [{"step": 1, "loss": None}]


def test_a_step_cannot_be_recorded_twice(tmp_path: Path):
    run = fresh(tmp_path)
    with pytest.raises(ValueError, match="call truncate_after first"):
        RunFolder("run", tmp_path).append_metrics(5, {})
    assert len(run.read_metrics()) == 5


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_torn_last_line_is_dropped_and_writing_goes_on(shared: Path, data: st.DataObject):
    run = fresh(shared, steps=4)
    whole = run.metrics.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    run.metrics.write_bytes(whole[:cut])
    again = RunFolder("run", shared).create()
    kept = whole[:cut].count(b"\n")
    assert [row["step"] for row in again.read_metrics()] == list(range(1, kept + 1))
    with again.lock():
        again.append_metrics(kept + 1, {"reward_mean": (kept + 1) / 3, "note": "é"})
    expected = b"".join(whole.splitlines(keepends=True)[: kept + 1])
    assert kept == 4 or again.metrics.read_bytes() == expected


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 6), st.integers(0, 6))
def test_truncated_run_that_goes_on_equals_an_uninterrupted_one(shared: Path, step: int, steps: int):
    expected = fresh(shared, steps=steps).metrics.read_bytes()
    run = RunFolder("run", shared).create()
    run.truncate_after(step)
    for missing in range(min(step, steps) + 1, steps + 1):
        run.append_metrics(missing, {"reward_mean": missing / 3, "note": "é"})
    assert run.metrics.read_bytes() == expected


def test_truncation_forgets_later_episodes_and_evaluations(tmp_path: Path):
    run = fresh(tmp_path)
    for step in (0, 2, 4):
        run.write_evaluation(evaluation(step), [Episode("t", 0)])
        run.write_episodes(step, [Episode("t", 0)])
    run.truncate_after(2)
    assert [found.step for found in run.read_evaluations()] == [0, 2]
    assert [path.exists() for path in map(run.episodes_file, (0, 2, 4))] == [True, True, False]
    assert not run.evaluation_file(4, "sampled").exists()


def test_evaluation_again_replaces_the_earlier_one(tmp_path: Path):
    run = RunFolder("run", tmp_path).create()
    for solved in (1, 4):
        run.write_evaluation(evaluation(0, n_solved=solved), [Episode("t", solved)])
    assert run.read_evaluations() == [evaluation(0, n_solved=4)]
    assert run.read_evaluation_episodes(0, "sampled") == [Episode("t", 4)]


def test_heldout_tasks_are_read_back(tmp_path: Path):
    run = RunFolder("run", tmp_path).create()
    assert run.read_heldout_tasks() == []
    run.write_heldout_tasks([Task("t", "How many?", "18")])
    assert run.read_heldout_tasks() == [Task("t", "How many?", "18")]


@pytest.mark.parametrize("line", ["{broken", "[1]", '{"reward": 1}'])
def test_broken_line_is_named_by_file_and_number(tmp_path: Path, line: str):
    run = fresh(tmp_path)
    rows = run.metrics.read_text().splitlines()
    run.metrics.write_text("\n".join([rows[0], line, *rows[2:]]) + "\n")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl, line 2: not .*delete the line"):
        run.read_metrics()


def test_the_newest_episodes_come_with_their_problems(tmp_path: Path):
    run = RunFolder("run", tmp_path).create()
    assert run.read_newest_episodes() == ([], [])
    for step in (9, 10):
        run.write_episodes(step, [Episode("t", step)], [Task("t", f"{step}?", "18")])
    assert run.read_newest_episodes() == ([Task("t", "10?", "18")], [Episode("t", 10)])
    run.truncate_after(9)
    assert [path.name for path in sorted(run.episodes.iterdir())] == [
        "step_000009.jsonl.gz",
        "step_000009_tasks.jsonl.gz",
    ]
