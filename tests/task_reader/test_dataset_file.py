"""The dataset_file reader reads GSM8K's records as they are, and names file, line and remedy of bad ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astune.errors import TaskError
from astune.task_reader.dataset_file import read_dataset_file
from astune.task_reader.types import Task

DUCKS = {"question": "How much?", "answer": "16 - 3 - 4 = <<16-3-4=9>>9\n9 * 2 = <<9*2=18>>18\n#### 18"}
HOUSE = {"question": "What profit?", "answer": "He made 70,000\n#### 70,000"}


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(TaskError) as caught:
        read_dataset_file(path, **options)
    return str(caught.value)


def test_a_gsm8k_record_becomes_a_task(tmp_path: Path) -> None:
    (task,) = read_dataset_file(write(tmp_path / "train.jsonl", DUCKS))
    assert task == Task(
        task_id="train-1",
        main_query="How much?",
        answer="18",
        init_messages=[{"role": "user", "content": "How much?"}],
        metadata={"line": 1, "reference": "18", "solution": DUCKS["answer"]},
    )


def test_commas_leave_the_answer_and_stay_in_the_metadata(tmp_path: Path) -> None:
    (task,) = read_dataset_file(write(tmp_path / "train.jsonl", HOUSE))
    assert (task.answer, task.metadata["reference"]) == ("70000", "70,000")


def test_a_comma_that_separates_no_thousands_stays(tmp_path: Path) -> None:
    (task,) = read_dataset_file(write(tmp_path / "pairs.jsonl", {"question": "q", "answer": "(1,2)"}))
    assert task.answer == "(1,2)"


@pytest.mark.parametrize(("split", "count"), [("train", 7473), ("test", 1319)])
def test_all_of_gsm8k_is_read(gsm8k: Path, split: str, count: int) -> None:
    tasks = read_dataset_file(gsm8k / f"{split}.jsonl")
    assert len(tasks) == count
    assert all(task.answer and task.answer.lstrip("-").isdigit() for task in tasks)


def test_parquet_reads_as_jsonl_does(tmp_path: Path) -> None:
    records = [DUCKS, HOUSE]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "train.parquet")
    assert read_dataset_file(tmp_path / "train.parquet") == read_dataset_file(write(tmp_path / "train.jsonl", *records))


def test_a_records_own_id_and_other_fields_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {**DUCKS, "id": 7, "level": "easy"}, {**HOUSE, "id": "b"})
    first, second = read_dataset_file(path)
    assert (first.task_id, second.task_id, first.metadata["record"]) == ("7", "b", {"level": "easy"})


def test_fields_may_have_other_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"problem": "q", "target": 18.5})
    (task,) = read_dataset_file(path, question_key="problem", answer_key="target")
    assert (task.main_query, task.answer) == ("q", "18.5")


def test_blank_lines_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(DUCKS).encode() + b"\r\n\r\n" + json.dumps(HOUSE).encode())
    assert [task.task_id for task in read_dataset_file(path)] == ["a-1", "a-3"]


def test_limit_reads_the_first_records_only(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", DUCKS, HOUSE, "never read")
    assert len(read_dataset_file(path, limit=2)) == 2


def test_a_missing_file_names_what_is_there(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", DUCKS)
    message = refusal(tmp_path / "trian.jsonl")
    assert "trian.jsonl: no such file" in message
    assert "there is train.jsonl" in message


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    assert f"nor the folder {tmp_path / 'data'}" in refusal(tmp_path / "data" / "train.jsonl")


def test_a_folder_names_the_reader_for_folders(tmp_path: Path) -> None:
    assert "huggingface_dat_repo" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("second_line", "message"),
    [
        (b'{"question": "q", "answer": ', "line 2: broken JSON at column"),
        (b"18", "line 2: a record is a JSON object {...}; this is a int"),
        (b'["q", "18"]', "line 2: a record is a JSON object {...}; this is a list"),
        (b'{"question": "caf\xe9", "answer": "18"}', "line 2: byte 18 is no UTF-8"),
        (b"[" * 100_000, "line 2: JSON that cannot be read"),
        (b'{"answer": "18"}', "line 2: no field 'question' (its fields: 'answer'); name the right one as question_key"),
        (b'{"question": "q"}', "line 2: no field 'answer' (its fields: 'question')"),
        (b'{"question": "q", "answer": null}', "line 2: its field 'answer' is empty"),
        (b'{"question": " ", "answer": "18"}', "line 2: its field 'question' is empty"),
        (b'{"question": ["q"], "answer": "18"}', "line 2: its field 'question' is a list, not a text"),
        (b'{"question": "q", "answer": true}', "line 2: its field 'answer' is a bool, not a text"),
        (b'{"question": "q", "answer": "9\\n#### "}', "line 2: nothing follows '#### '"),
        (b'{"question": "q", "answer": "9 * 2\\n18"}', "line 2: its answer is a worked solution without '#### '"),
        (b'{"question": "q", "answer": "<<9*2=18>>18"}', "line 2: its answer is a worked solution without '#### '"),
        (b'{"question": "q", "answer": "18", "id": {}}', "line 2: its id is {}"),
    ],
)
def test_a_bad_record_is_refused_by_file_and_line(tmp_path: Path, second_line: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(DUCKS).encode() + b"\n" + second_line + b"\n")
    assert f"{path}, {message}" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_data_set_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    assert "a.jsonl: no tasks" in refusal(tmp_path / "a.jsonl")


def test_duplicate_ids_name_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {**DUCKS, "id": "x"}, HOUSE, {**HOUSE, "id": "x"})
    assert "task id 'x' occurs twice in lines 1 and 3" in refusal(path)


def test_an_unknown_extension_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q,18")
    assert "unknown kind of file '.csv'; a data set is a .jsonl or .parquet file" in refusal(tmp_path / "a.csv")


def test_a_file_that_only_calls_itself_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    assert "a.parquet: no readable Parquet file" in refusal(tmp_path / "a.parquet")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", DUCKS)
    path.chmod(0)
    assert "cannot be read: Permission denied" in refusal(path)
