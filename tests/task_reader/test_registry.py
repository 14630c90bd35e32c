"""Tasks come from where the configuration says, and nothing that is held out is trained on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from astune.config.schema import TaskReader
from astune.errors import TaskError
from astune.task_judge.math_answer_as_judge import MathAnswerAsJudge
from astune.task_judge.types import Judge
from astune.task_reader.checks import check_tasks, validate_tasks
from astune.task_reader.registry import read_splits, read_tasks
from astune.task_reader.types import Task


def settings(**fields: Any) -> TaskReader:
    return TaskReader.model_validate(fields)


def write(path: Path, numbers: range) -> Path:
    records = [{"question": f"What is {n}?", "answer": str(n), "id": f"n{n}"} for n in numbers]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_file_is_read_by_its_settings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", range(3))
    assert [task.answer for task in read_tasks(settings(type="dataset_file", dataset_file={"path": path}))] == list(
        "012"
    )


def test_nano_gsm_is_read_by_its_settings() -> None:
    assert len(read_tasks(settings(type="nano_gsm", nano_gsm={"n_train": 20}))) == 20


def test_nano_gsm_holds_out_problems_of_its_test_split() -> None:
    splits = read_splits(settings(nano_gsm={"n_train": 300}), n_heldout=50)
    assert len(splits.heldout) == 50
    assert not {task.main_query for task in splits.train} & {task.main_query for task in splits.heldout}


def test_a_file_holds_out_its_fraction(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", range(50))
    reader = settings(type="dataset_file", dataset_file={"path": path}, heldout={"fraction": 0.2})
    splits = read_splits(reader, n_heldout=200)
    assert (len(splits.train), len(splits.heldout)) == (40, 10)
    assert not {task.task_id for task in splits.train} & {task.task_id for task in splits.heldout}


def test_what_a_file_holds_out_does_not_depend_on_the_order_of_its_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", range(50))
    reader = settings(type="dataset_file", dataset_file={"path": path})
    before = {task.task_id for task in read_splits(reader, 50).heldout}
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    assert {task.task_id for task in read_splits(reader, 50).heldout} == before


def test_a_training_task_that_is_held_out_elsewhere_is_left_out(tmp_path: Path) -> None:
    train, held = write(tmp_path / "train.jsonl", range(10)), write(tmp_path / "held.jsonl", range(5, 15))
    reader = settings(
        type="dataset_file",
        dataset_file={"path": train},
        heldout={"type": "dataset_file", "dataset_file": {"path": held}},
    )
    assert [task.answer for task in read_splits(reader, 20).train] == list("01234")


def test_nothing_left_to_train_on_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", range(1))
    with pytest.raises(TaskError, match="too few"):
        read_splits(settings(type="dataset_file", dataset_file={"path": path}), 10)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "here: no tasks"),
        ([Task("a", "q", "1"), Task("a", "q", "1")], "task id 'a' occurs twice"),
        ([Task("a", "q", None)], "task 'a' has no answer"),
        ([Task("a", "q", " ")], "task 'a' has no answer"),
        ([Task("a", " ", "1")], "task 'a' has no question"),
    ],
)
def test_a_list_of_tasks_is_checked(tasks: list[Task], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        check_tasks(tasks, "here")


def test_every_gold_answer_of_gsm8k_scores_one(gsm8k: Path) -> None:
    tasks = read_tasks(settings(type="dataset_file", dataset_file={"path": gsm8k / "test.jsonl"}))
    assert validate_tasks(tasks, MathAnswerAsJudge()) == []


def test_every_gold_answer_of_nano_gsm_scores_one() -> None:
    assert validate_tasks(read_tasks(settings(nano_gsm={"n_train": 500})), MathAnswerAsJudge()) == []


def test_a_task_whose_own_answer_fails_is_named() -> None:
    class Strict:
        def compute_reward(self, judge_input_dictionary: dict[str, Any]) -> tuple[float, bool]:
            return 0.0, False

    judge: Judge = Strict()
    assert validate_tasks([Task("a", "q", "1", metadata={"line": 3})], judge) == [
        "task 'a' (line 3): its own answer '1' scores 0"
    ]


def test_importing_the_readers_imports_nothing_heavy() -> None:
    code = (
        "import sys, astune.task_reader.registry; print({'torch', 'datasets', 'pyarrow', 'sympy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
