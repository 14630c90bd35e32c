"""MathAnswerAsJudge pays for the right answer and for nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from astune.errors import JudgeError
from astune.task_judge.math_answer_as_judge import MathAnswerAsJudge
from astune.task_reader.types import Task
from astune.workflow.types import WorkflowTask


def evidence(**fields: Any) -> dict[str, Any]:
    return {"workflow_task": WorkflowTask(Task("t", "q", "18")), "grouped_steps": [], "tool_calls": [], **fields}


@pytest.mark.parametrize(
    ("fields", "reward", "is_success"),
    [
        ({"final_answer": r"\boxed{18}"}, 1.0, True),
        ({"final_answer": 18}, 1.0, True),
        ({"final_answer": r"\boxed{17}"}, 0.0, False),
        ({"final_answer": "I don't know"}, 0.0, None),
        ({"final_answer": ""}, 0.0, False),
        ({"final_answer": None}, 0.0, False),
        ({}, 0.0, False),
    ],
)
def test_reward_and_success(fields: dict[str, Any], reward: float, is_success: bool | None) -> None:
    assert MathAnswerAsJudge().compute_reward(evidence(**fields)) == (reward, is_success, {"correct": reward})


def test_a_task_without_a_reference_is_an_error_that_names_it() -> None:
    with pytest.raises(JudgeError, match="task 'bare' has no reference answer"):
        MathAnswerAsJudge().compute_reward({"workflow_task": WorkflowTask(Task("bare", "q")), "final_answer": "18"})
