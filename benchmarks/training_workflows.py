"""The two jobs of the training-step benchmark as workflows that grade themselves."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from training_task import MAX_TURNS, SYSTEM_PROMPT, call_format_reward, final_answer_reward, model_folder
from transformers import AutoTokenizer

from astune.tools.python_tool import TOOL_SCHEMA, execute_python_code
from astune.workflow.types import Workflow, WorkflowOutput, WorkflowTask


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_folder())


def _opening(workflow_task: WorkflowTask) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": workflow_task.task.main_query},
    ]


class SingleTurn(Workflow):
    """One completion, rewarded for a well-formed call that prints."""

    async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
        """Samples once and grades the text of the sampled ids."""
        _, turn = await astune_proxy.chat(_opening(workflow_task), tools=[TOOL_SCHEMA])
        reward = call_format_reward(_tokenizer().decode(turn.completion_ids))
        return WorkflowOutput(reward=reward, is_success=reward == 1.0)


class ToolAgent(Workflow):
    """The loop of TRL's ``tools=``: call tools until a turn has no valid call, then grade the last message."""

    async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
        """Runs the loop and grades the last assistant message."""
        messages = _opening(workflow_task)
        for number in range(MAX_TURNS):
            answer, _ = await astune_proxy.chat(messages, tools=[TOOL_SCHEMA])
            messages.append(answer)
            calls = [call for call in answer.get("tool_calls", ()) if call["status"] == "ok"]
            if not calls or number == MAX_TURNS - 1:
                break
            for call in calls:
                output = await execute_python_code(str(call["arguments"].get("code", "")))
                messages.append({"role": "tool", "name": call["name"], "content": output})
        reward = final_answer_reward(answer["content"], workflow_task.task.answer or "")
        return WorkflowOutput(reward=reward, is_success=reward == 1.0)
