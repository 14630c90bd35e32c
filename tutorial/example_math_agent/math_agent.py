"""The math agent of the tutorial: ReAct with a Python tool, on AgentScope."""

from __future__ import annotations

from typing import Any

from agentscope.agent import ReActAgent
from agentscope.formatter import DashScopeChatFormatter
from agentscope.memory import InMemoryMemory
from agentscope.message import Msg
from agentscope.tool import Toolkit
from pydantic import BaseModel, Field

from astune.tools.agentscope_tools import execute_python_code
from astune.workflow.types import Workflow, WorkflowOutput, WorkflowTask

system_prompt = (
    "You solve math word problems. Break the problem down, compute with Python code that prints the result, "
    "wait for the tool response, then give the final answer within \\boxed{}."
)


class FinalResult(BaseModel):
    """The structured answer that the agent hands in."""

    result: str = Field(description="The final answer within \\boxed{}.")


class ExampleMathLearn(Workflow):
    """ReAct + ``execute_python_code``: one episode on one problem."""

    async def agentscope_execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
        """Runs the agent and registers its final answer for the judge."""
        init_messages = workflow_task.task.init_messages
        self.toolkit = Toolkit()
        self.toolkit.register_tool_function(execute_python_code)
        self.agent = ReActAgent(
            name="math_react_agent",
            sys_prompt=system_prompt,
            model=astune_proxy,  # the model wrapper that the trainer manages
            formatter=DashScopeChatFormatter(),
            toolkit=self.toolkit,
            memory=InMemoryMemory(),
        )
        self.agent.set_console_output_enabled(False)
        msg = Msg("user", init_messages[0]["content"], role="user")
        result = await self.agent.reply(msg, structured_model=FinalResult)
        final_answer = (result.metadata or {}).get("result") or result.get_text_content()
        astune_proxy.update_judge_input_dictionary(final_answer=final_answer)
        return WorkflowOutput(metadata={"final_answer": final_answer})
