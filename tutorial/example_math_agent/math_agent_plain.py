"""The math agent of the tutorial once more, as a plain loop that uses no agent framework."""

from __future__ import annotations

import re
from typing import Any

from astune.tools.python_tool import TOOL_SCHEMA, execute_python_code
from astune.workflow.types import Workflow, WorkflowOutput, WorkflowTask

system_prompt = (
    "You solve math word problems. Break the problem down, compute with Python code that prints the result, "
    "wait for the tool response, then give the final answer within \\boxed{}."
)

#: Model calls of one episode.
MAX_TURNS = 6


class PlainMathLearn(Workflow):
    """Call the model, run its tool calls, repeat until it answers."""

    async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
        """Runs the agent and registers its final answer for the judge."""
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": system_prompt},
            {"role": "user", "content": workflow_task.task.init_messages[0]["content"]},
        ]
        final_answer: str | None = None
        for _ in range(MAX_TURNS):
            answer, _turn = await astune_proxy.chat(messages, tools=[TOOL_SCHEMA])
            messages.append(answer)
            calls = answer.get("tool_calls", [])
            # An answer counts as soon as it is given, also beside a call whose result it did not wait for.
            if not calls or re.search(r"\\boxed\s*\{", answer["content"]):
                final_answer = answer["content"]
                break
            messages += [{"role": "tool", "name": call["name"], "content": await _observe(call)} for call in calls]
        astune_proxy.update_judge_input_dictionary(final_answer=final_answer)
        return WorkflowOutput(metadata={"final_answer": final_answer})


async def _observe(call: dict[str, Any]) -> str:
    """What the model reads after a call: the tool's output, or why there is none."""
    if call["name"] != "execute_python_code":
        return f"FunctionNotFoundError: Cannot find the function named {call['name']}"
    code = call["arguments"].get("code")
    if not isinstance(code, str) or set(call["arguments"]) != {"code"}:
        return "Error: execute_python_code takes one argument, code (a string)"
    return str(await execute_python_code(code))
