"""The prompts that the bundled policy is trained on: system prompts, tool schemas, critique and refine messages."""

from __future__ import annotations

from typing import Any

from astune.refine.prompts import bundled_prompts
from astune.tools.python_tool import TOOL_SCHEMA

Message = dict[str, Any]

#: Of the math agent in tutorial/example_math_agent/math_agent.py, to the letter.
MATH_SYSTEM = (
    "You solve math word problems. Break the problem down, compute with Python code that prints the result, "
    "wait for the tool response, then give the final answer within \\boxed{}."
)

#: What AgentScope offers besides the tool, with ``structured_model=FinalResult``.
GENERATE_RESPONSE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "generate_response",
        "parameters": {
            "properties": {"result": {"description": "The final answer within \\boxed{}.", "type": "string"}},
            "type": "object",
            "required": ["result"],
        },
        "description": "Generate required structured output by this function and return it",
    },
}

#: The tools of the math agent on AgentScope, and of the plain workflow.
AGENTSCOPE_TOOLS: list[dict[str, Any]] = [TOOL_SCHEMA, GENERATE_RESPONSE]
PLAIN_TOOLS: list[dict[str, Any]] = [TOOL_SCHEMA]

#: What a workflow answers to a tool call that does not parse.
INVALID_CALL_OBSERVATION = "FunctionNotFoundError: Cannot find the function named invalid_tool_call"


def math_messages(question: str) -> list[Message]:
    """Opening messages of the math agent."""
    return [{"role": "system", "content": MATH_SYSTEM}, {"role": "user", "content": question}]


def answer_messages(question: str) -> list[Message]:
    """Messages of a direct answer, without tools: the question alone."""
    return [{"role": "user", "content": question}]


def critique_messages(question: str, attempt: str) -> list[Message]:
    """Messages that ask for a critique of ``attempt``."""
    return bundled_prompts().critique(answer_messages(question), attempt)


def refine_messages(question: str, attempt: str, critique: str | None = None) -> list[Message]:
    """Messages that ask for an improved solution, given an attempt and, where there is one, its critique."""
    return bundled_prompts().refine(answer_messages(question), attempt, critique)


def observation(stdout: str, stderr: str = "", returncode: int = 0) -> str:
    """What ``execute_python_code`` answers."""
    return f"<returncode>{returncode}</returncode><stdout>{stdout}</stdout><stderr>{stderr}</stderr>"
