"""``execute_python_code`` as an AgentScope tool function. Needs the ``agentscope`` extra."""

from __future__ import annotations

from agentscope.message import TextBlock
from agentscope.tool import ToolResponse

from astune.tools import python_tool


async def execute_python_code(code: str) -> ToolResponse:
    """Run Python code in a sandbox. Only what the code prints comes back, as stdout.

    Args:
        code (`str`): The Python code to run.
    """
    text = await python_tool.execute_python_code(code)
    return ToolResponse(content=[TextBlock(type="text", text=text)])
