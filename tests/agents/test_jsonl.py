"""Records outlive a kill at any byte."""

import pytest

from agents.common import jsonl


def test_rows_come_back_in_order(tmp_path):
    for number in range(3):
        jsonl.append(tmp_path / "rows.jsonl", {"n": number, "text": "a\u2028b"})
    assert [row["n"] for row in jsonl.read(tmp_path / "rows.jsonl")] == [0, 1, 2]


def test_a_file_that_is_not_there_is_empty(tmp_path):
    assert jsonl.read(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("cut", range(1, 10))
def test_a_row_that_was_cut_off_is_left_out_and_the_next_one_is_whole(tmp_path, cut):
    path = tmp_path / "rows.jsonl"
    jsonl.append(path, {"n": 1})
    whole = path.read_bytes()
    jsonl.append(path, {"n": 2})
    path.write_bytes(path.read_bytes()[: len(whole) + cut])
    survivors = [row["n"] for row in jsonl.read(path)]
    jsonl.append(path, {"n": 3})
    assert [row["n"] for row in jsonl.read(path)] == [*survivors, 3]
