"""The checker of short Python functions (pass@1): the sandbox runs them, and this process compares what they return."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

from astune.tools.python_tool import current_sandbox
from astune.tools.types import SandboxLimits, SandboxResult, SandboxStop
from autorl_bench.scenarios.checkers.python_subset import BUILTINS, why_refused
from autorl_bench.types import Item

_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)

# Runs in the sandbox. It is given the function's code and the inputs, never what should come out.
_RUNNER = """
import builtins, json
task = json.loads({payload!r})
names = dict((name, getattr(builtins, name)) for name in task["builtins"])
names["__import__"] = builtins.__import__
space = dict(__name__="submission", __builtins__=names)
exec(compile(task["code"], "<submission>", "exec"), space)
function = space[task["function"]]
returned = [function(*arguments) for arguments in task["inputs"]]
print()
print(task["nonce"], json.dumps(returned, allow_nan=False))
"""


class PythonFunction:
    """Whether the function in a completion returns the right value for each hidden input.

    An item's target is JSON: ``{"function": "f", "tests": [[[arguments], expected], ...]}``. The completion is its last
    fenced block, or all of it. Code outside the subset (:mod:`.python_subset`) is wrong without being run. What runs
    sees the inputs alone. It could print anything it likes, and the random word before the results, too: to be
    called right it must print the right values, which is to solve the problem. Ending early, replacing builtins or
    returning an object that equals everything gains nothing, because the comparison happens here, on JSON.
    """

    def __init__(self, seconds: float = 5.0, cpu_seconds: float = 2.0, memory_mib: int = 256) -> None:
        self._limits = SandboxLimits(seconds=seconds, cpu_seconds=cpu_seconds, memory=memory_mib * 2**20, file_size=1)

    async def grade(self, item: Item, completion: str) -> bool | None:
        """Never None: code that does not run, or runs too long, is wrong."""
        target = json.loads(item.target)
        code = code_of(completion)
        if why_refused(code) is not None:
            return False
        inputs = [arguments for arguments, _ in target["tests"]]
        returned = await self._run(code, target["function"], inputs)
        expected = [value for _, value in target["tests"]]
        return returned is not None and same(returned, expected)

    async def _run(self, code: str, function: str, inputs: list[list[Any]]) -> Any:
        """What the function returned for each of ``inputs``, or None where it did not get to the end."""
        nonce = secrets.token_hex(16)
        task = {"code": code, "function": function, "inputs": inputs, "nonce": nonce, "builtins": sorted(BUILTINS)}
        script = _RUNNER.format(payload=json.dumps(task))
        result = await current_sandbox().run(script, self._limits)
        if result.stop_reason is SandboxStop.KILLED:  # perhaps by this machine: the code gets one more chance
            result = await current_sandbox().run(script, self._limits)
        return _read(result, nonce)


def code_of(completion: str) -> str:
    """The last fenced block of a completion, or all of it where there is none."""
    blocks = _FENCE.findall(completion)
    return str(blocks[-1]) if blocks else completion


def same(returned: Any, expected: Any) -> bool:
    """Equality of JSON values, where ``True`` is not 1; a number may be written as int or float."""
    if isinstance(expected, list):
        return (
            isinstance(returned, list)
            and len(returned) == len(expected)
            and all(same(*pair) for pair in zip(returned, expected, strict=True))
        )
    if isinstance(expected, bool) or isinstance(returned, bool):
        return returned is expected
    return bool(returned == expected)


def _read(result: SandboxResult, nonce: str) -> Any:
    if result.stop_reason is not SandboxStop.EXIT or result.returncode != 0:
        return None
    lines = [line for line in result.stdout.splitlines() if line.startswith(f"{nonce} ")]
    if len(lines) != 1:
        return None
    try:
        return json.loads(lines[0].removeprefix(nonce))
    except (ValueError, RecursionError):
        return None
