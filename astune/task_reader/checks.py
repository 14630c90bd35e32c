"""What every list of tasks must satisfy before a run starts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from astune.errors import JudgeError, TaskError
from astune.task_judge.registry import run_judge
from astune.task_judge.types import Judge
from astune.task_reader.types import Task
from astune.workflow.types import WorkflowTask


def check_tasks(tasks: Sequence[Task], source: str) -> list[Task]:
    """Returns ``tasks`` where there is at least one, each has a question and an answer, and ids are unique.

    Args:
        source: what the messages call the place that the tasks come from (a file, a data set).

    Raises:
        TaskError: names the source, the task and its line.
    """
    if not tasks:
        raise TaskError(f"{source}: no tasks; a data set needs at least one record with a question and an answer")
    first: dict[str, Task] = {}
    for task in tasks:
        if not task.main_query.strip():
            raise TaskError(f"{source}: task {task.task_id!r}{_where(task)} has no question")
        if not (task.answer or "").strip():
            raise TaskError(f"{source}: task {task.task_id!r}{_where(task)} has no answer; add its reference answer")
        if (other := first.setdefault(task.task_id, task)) is not task:
            lines = [str(twin.metadata["line"]) for twin in (other, task) if "line" in twin.metadata]
            place = f" in lines {' and '.join(lines)}" if lines else ""
            raise TaskError(f"{source}: task id {task.task_id!r} occurs twice{place}; ids must be unique")
    return list(tasks)


async def validate_tasks_async(tasks: Sequence[Task], judge: Judge) -> list[str]:
    """Lets each task validate itself: its own answer must be a success for ``judge``. Returns the complaints."""
    complaints = []
    for task in tasks:
        evidence = {
            "workflow_task": WorkflowTask(task),
            "grouped_steps": [],
            "tool_calls": [],
            "final_answer": f"\\boxed{{{task.answer}}}",
        }
        try:
            verdict = await run_judge(judge, evidence)
        except JudgeError as error:
            complaints.append(str(error))
            continue
        if verdict.is_success is not True:
            outcome = "cannot be graded" if verdict.is_success is None else f"scores {verdict.raw_reward:g}"
            complaints.append(f"task {task.task_id!r}{_where(task)}: its own answer {task.answer!r} {outcome}")
    return complaints


def validate_tasks(tasks: Sequence[Task], judge: Judge) -> list[str]:
    """As :func:`validate_tasks_async`, for callers outside an event loop."""
    return asyncio.run(validate_tasks_async(tasks, judge))


def _where(task: Task) -> str:
    return f" (line {task.metadata['line']})" if "line" in task.metadata else ""
