"""The simplest agent: one model call without tools, whose text is the answer."""

from __future__ import annotations

from typing import Any

from astune.workflow.types import Workflow, WorkflowOutput, WorkflowTask


class DirectAnswer(Workflow):
    """Asks the model once with the task's opening messages."""

    async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
        """Registers the model's text as ``final_answer`` for the judge."""
        answer, _turn = await astune_proxy.chat(workflow_task.task.init_messages)
        astune_proxy.update_judge_input_dictionary(final_answer=answer["content"])
        return WorkflowOutput()
