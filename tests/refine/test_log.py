"""self_refine_log.jsonl: rows are whole, whoever writes and whatever dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from astune.errors import CheckpointError
from astune.refine.log import RefineLog, log_row, read_log
from astune.refine.types import Attempt, Grade, History, Round
from tests.refine.fake_stage import attempt, prompts_of, sampled

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

WRITER = """
import sys
from astune.refine.log import RefineLog, log_row
from astune.refine.types import Attempt, Grade, Sample

log = RefineLog(sys.argv[1])
for batch in range(12):
    text = sys.argv[2] * 3000
    first = Attempt(Sample(text, [], []), Grade(1.0, True))
    log.append([log_row(batch, row, "?", first, None) for row in range(5)])
"""


def row_of(text: str = "It is 18.", batch: int = 1):
    return log_row(batch, 0, "How many?", attempt(text, True), None, now=NOW)


def refined_history() -> History:
    rounds = [
        Round(1, sampled("It is wrong."), "It is wrong.", False, False, attempt("still 17", False)),
        Round(2, sampled("Add the tens."), "Add the tens.", None, True, attempt("now it is 18", True)),
    ]
    return History(3, prompts_of(1)[0], attempt("17", False), "last", rounds, "correct")


def test_a_refined_sample_as_a_row(tmp_path: Path):
    row = log_row(7, 3, "How many?", attempt("17", False), refined_history(), solution="18", now=NOW)
    RefineLog(tmp_path / "log.jsonl").append([row])
    [read] = read_log(tmp_path / "log.jsonl")
    history = read.pop("refine_history")
    assert read == {
        "batch": 7,
        "sample_idx": 3,
        "timestamp": "2026-01-02T03:04:05.000+00:00",
        "was_correct_at_t1": False,
        "is_correct_at_t2": True,
        "transition": "i→c",
        "question": "How many?",
        "original": "17",
        "critique": "Add the tens.",
        "refined": "now it is 18",
        "solution": "18",
        "tokens": {"answer": 1, "critique": 6, "refine": 6},
        "stopped": "correct",
        "process": 0,
    }
    assert [(done["verdict"], done["critique_shortened"], done["correct"]) for done in history] == [
        (False, False, False),
        (None, True, True),
    ]


def test_a_sample_that_was_not_refined_keeps_its_correctness():
    row = row_of()
    assert (row.transition, row.critique, row.refined, row.refine_history) == ("c→c", None, None, [])


def test_a_sample_that_could_not_be_graded_has_no_transition():
    first = Attempt(sampled("?"), Grade(float("nan"), None))
    assert log_row(1, 0, "?", first, None).transition is None


def test_no_rows_leave_no_file(tmp_path: Path):
    RefineLog(tmp_path / "log.jsonl").append([])
    assert list(tmp_path.iterdir()) == []


def test_line_ends_of_unicode_do_not_cut_a_row_for_readers_that_split_at_them(tmp_path: Path):
    RefineLog(tmp_path / "log.jsonl").append([row_of("18\x85or\u2028not\u2029"), row_of()])
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["original"] for line in lines] == ["18\x85or\u2028not\u2029", "It is 18."]


def test_texts_with_line_ends_and_half_characters_are_one_line_each(tmp_path: Path):
    text = "line one\nline two\u2028three \ud83d"
    RefineLog(tmp_path / "log.jsonl").append([row_of(text), row_of()])
    assert [row["original"] for row in read_log(tmp_path / "log.jsonl")] == [text, "It is 18."]


def test_a_torn_line_costs_itself_and_nothing_after_it(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    log = RefineLog(path)
    log.append([row_of("first"), row_of("torn")])
    path.write_bytes(path.read_bytes()[:-40])
    log.append([row_of("after")])
    assert [row["original"] for row in read_log(path)] == ["first", "after"]


def test_several_processes_append_whole_rows(tmp_path: Path, project_root: Path):
    path = tmp_path / "log.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), letter], cwd=project_root) for letter in "abc"
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    texts = [row["original"] for row in rows]
    assert sorted(texts) == sorted(letter * 3000 for letter in "abc" for _ in range(60))
    # The rows of one call stand together.
    assert all(len(set(texts[start : start + 5])) == 1 for start in range(0, len(texts), 5))


def test_a_disk_without_room_takes_nothing_of_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "log.jsonl"
    log = RefineLog(path)
    log.append([row_of("first")])
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:30]))
    with pytest.raises(CheckpointError, match="no space left"):
        log.append([row_of("second")])
    monkeypatch.undo()
    assert [row["original"] for row in read_log(path)] == ["first"]
    assert path.read_bytes().endswith(b"\n")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=str(tmp_path / "file" / "log.jsonl")):
        RefineLog(tmp_path / "file" / "log.jsonl").append([row_of()])
