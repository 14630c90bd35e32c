"""The tool as a model and a workflow see it."""

import asyncio

import pytest

from astune.tools.python_tool import (
    TOOL_SCHEMA,
    current_sandbox,
    execute_python_code,
    format_response,
    record_tool_calls,
    use_sandbox,
)
from astune.tools.sandbox import Sandbox
from astune.tools.types import SandboxLimits, SandboxResult, SandboxStop


def test_response_has_the_seed_s_form() -> None:
    result = SandboxResult("18\n", "", 0, SandboxStop.EXIT, 0.5)
    assert format_response(result) == "<returncode>0</returncode><stdout>18\n</stdout><stderr></stderr>"


@pytest.mark.parametrize(
    ("stop", "word"),
    [(SandboxStop.TIMEOUT, "TimeoutError"), (SandboxStop.OUTPUT, "OutputError"), (SandboxStop.KILLED, "killed")],
)
def test_response_says_why_the_code_was_stopped(stop: SandboxStop, word: str) -> None:
    text = format_response(SandboxResult("", "half a line", -9, stop, 0.5))
    assert text.startswith("<returncode>-9</returncode><stdout></stdout><stderr>half a line\n")
    assert word in text


async def test_tool_runs_in_the_current_sandbox() -> None:
    with Sandbox(limits=SandboxLimits(seconds=0.3)) as sandbox, use_sandbox(sandbox):
        assert current_sandbox() is sandbox
        assert "TimeoutError" in await execute_python_code("while True: pass")
    assert current_sandbox() is not sandbox


async def test_tool_works_without_a_chosen_sandbox() -> None:
    response = await execute_python_code("print(18)")
    assert response == "<returncode>0</returncode><stdout>18\n</stdout><stderr></stderr>"


async def test_calls_are_recorded(kernel: Sandbox) -> None:
    with use_sandbox(kernel), record_tool_calls() as calls:
        output = await execute_python_code("1 / 0")
    (call,) = calls
    assert (call.name, call.arguments, call.output) == ("execute_python_code", {"code": "1 / 0"}, output)
    assert (call.returncode, call.stop_reason, call.seconds > 0) == (1, "exit", True)


async def test_episodes_that_run_together_record_apart(kernel: Sandbox) -> None:
    async def episode(number: int) -> list[str]:
        with use_sandbox(kernel), record_tool_calls() as calls:
            for step in range(2):
                await execute_python_code(f"print({number}, {step})")
        return [call.arguments["code"] for call in calls]

    recorded = await asyncio.gather(*(episode(number) for number in range(4)))
    assert recorded == [[f"print({number}, 0)", f"print({number}, 1)"] for number in range(4)]


async def test_agentscope_form_has_the_same_schema_and_text(kernel: Sandbox) -> None:
    tool = pytest.importorskip("agentscope.tool")
    from astune.tools import agentscope_tools

    toolkit = tool.Toolkit()
    toolkit.register_tool_function(agentscope_tools.execute_python_code)
    assert toolkit.get_json_schemas() == [TOOL_SCHEMA]
    with use_sandbox(kernel), record_tool_calls() as calls:
        response = await agentscope_tools.execute_python_code("print(18)")
    assert response.content[0]["text"] == calls[0].output
