"""``execute_python_code`` for workflows without a framework: sandboxed, recorded, answered in text."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from astune.tools.sandbox import Sandbox
from astune.tools.types import SandboxResult, SandboxStop
from astune.trace import ToolCall

TOOL_NAME = "execute_python_code"

#: The tool as a model is told of it: what AgentScope derives from the same function.
TOOL_SCHEMA: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": TOOL_NAME,
        "parameters": {
            "properties": {"code": {"description": "The Python code to run.", "type": "string"}},
            "required": ["code"],
            "type": "object",
        },
        "description": "Run Python code in a sandbox. Only what the code prints comes back, as stdout.",
    },
}

_NOTES = {
    SandboxStop.TIMEOUT: "TimeoutError: the code ran longer than it may and was stopped.",
    SandboxStop.OUTPUT: "OutputError: the code printed more than it may and was stopped; the rest is cut.",
    SandboxStop.KILLED: "The process that ran the code was killed.",
}

_sandbox: ContextVar[Sandbox | None] = ContextVar("astune_sandbox", default=None)
_record: ContextVar[list[ToolCall] | None] = ContextVar("astune_tool_calls", default=None)
_default: list[Sandbox] = []


@contextlib.contextmanager
def use_sandbox(sandbox: Sandbox) -> Iterator[Sandbox]:
    """Tool calls made within this context (and the tasks started in it) run in ``sandbox``."""
    token = _sandbox.set(sandbox)
    try:
        yield sandbox
    finally:
        _sandbox.reset(token)


@contextlib.contextmanager
def record_tool_calls() -> Iterator[list[ToolCall]]:
    """Collects the tool calls made within this context, in the order in which they ended."""
    calls: list[ToolCall] = []
    token = _record.set(calls)
    try:
        yield calls
    finally:
        _record.reset(token)


def current_sandbox() -> Sandbox:
    """The sandbox of ``use_sandbox``, else one for the whole process, made when first needed."""
    sandbox = _sandbox.get()
    if sandbox is not None:
        return sandbox
    if not _default:
        _default.append(Sandbox())
        atexit.register(_default[0].close)
    return _default[0]


def format_response(result: SandboxResult) -> str:
    """The text that a model reads: return code, stdout, stderr. Holds no timing, so equal runs read the same."""
    stderr = result.stderr
    note = _NOTES.get(result.stop_reason)
    if note:
        stderr = f"{stderr}{'' if not stderr or stderr.endswith(chr(10)) else chr(10)}{note}"
    return f"<returncode>{result.returncode}</returncode><stdout>{result.stdout}</stdout><stderr>{stderr}</stderr>"


async def execute_python_code(code: str) -> str:
    """Run Python code in a sandbox. Only what the code prints comes back, as stdout.

    Args:
        code (`str`): The Python code to run.
    """
    result = await current_sandbox().run(code)
    output = format_response(result)
    calls = _record.get()
    if calls is not None:
        reason = result.stop_reason.value
        calls.append(ToolCall(TOOL_NAME, {"code": code}, output, result.returncode, reason, result.seconds))
    return output
