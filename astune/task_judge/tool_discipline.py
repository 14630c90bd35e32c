"""How well an agent handled its tool, read from the records of its turns and tool calls alone.

The habits are computed for every run, whatever its judge; :class:`ToolDisciplineAsJudge` makes them cost
reward.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from astune.errors import ConfigError
from astune.task_judge.answer_text import committed_answer
from astune.task_judge.plain_number import normalise, read_number
from astune.task_judge.registry import resolve_judge, run_judge
from astune.task_judge.types import Judge, JudgeResult
from astune.trace import ToolCall, Turn

TOOL = "execute_python_code"
ANSWER_TOOL = "generate_response"
#: What the agent did wrong. The first three are the failures that training removes.
HABITS = ("no_print", "premature_answer", "malformed_call", "unused_result", "never_called")

_STDOUT = re.compile(r"<stdout>(.*)</stdout>\s*<stderr>", re.DOTALL)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_NUMBER = re.compile(r"-?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?:/\d+)?", re.ASCII)


def habits(turns: Sequence[Turn], tool_calls: Sequence[ToolCall]) -> dict[str, bool]:
    """Returns for each of :data:`HABITS` whether the episode shows it.

    ``no_print``: code ran without an error and printed nothing. ``premature_answer``: one turn calls the tool
    and answers. ``malformed_call``: a tool-call block that does not parse. ``unused_result``: the final
    answer is a number that no tool call printed. ``never_called``: no tool call at all.
    """
    return {name: share > 0 for name, share in habit_shares(turns, tool_calls).items()}


def habit_shares(turns: Sequence[Turn], tool_calls: Sequence[ToolCall]) -> dict[str, float]:
    """Returns how much of the episode shows each habit, from 0 to 1.

    ``no_print`` is a share of the tool calls that ran, ``premature_answer`` of the turns that call, ``malformed_call``
    of the calls attempted; the other two are 0 or 1.
    """
    python_calls = [call for call in tool_calls if call.name == TOOL]
    attempts = [call for turn in turns for call in _calls(turn)]
    calling_turns = [turn for turn in turns if any(_attempts_tool(call) for call in _calls(turn))]
    return {
        "no_print": _share([call.returncode == 0 and not stdout_of(call).strip() for call in python_calls]),
        "premature_answer": _share([_answers(turn) for turn in calling_turns]),
        "malformed_call": _share([_is_malformed(call) for call in attempts]),
        "unused_result": float(_is_unused(turns, python_calls)),
        "never_called": float(not python_calls and not calling_turns),
    }


def stdout_of(call: ToolCall) -> str:
    """Returns what the code printed; ``call.output`` may be that or the whole response with its tags."""
    match = _STDOUT.search(call.output)
    return match[1] if match else call.output


def _calls(turn: Turn) -> list[Mapping[str, Any]]:
    return list(turn.message.get("tool_calls") or [])


def _is_malformed(call: Mapping[str, Any]) -> bool:
    return str(call.get("status", "ok")) != "ok"


def _attempts_tool(call: Mapping[str, Any]) -> bool:
    """Whether a call is meant for the Python tool; a broken one is, unless it names the other tool."""
    if _is_malformed(call):
        return ANSWER_TOOL not in f"{call.get('name')} {call.get('arguments')} {call.get('raw')}"
    return call.get("name") == TOOL


def _answers(turn: Turn) -> bool:
    content = turn.message.get("content")
    boxed = isinstance(content, str) and _BOX.search(content) is not None
    return boxed or any(call.get("name") == ANSWER_TOOL and not _is_malformed(call) for call in _calls(turn))


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0


def _is_unused(turns: Sequence[Turn], python_calls: Sequence[ToolCall]) -> bool:
    printed = [stdout_of(call) for call in python_calls if call.returncode == 0 and stdout_of(call).strip()]
    answer = read_number(normalise(_final_answer(turns)))
    if not printed or answer is None:
        return False
    numbers = (read_number(token) for text in printed for token in _NUMBER.findall(text[:100_000]))
    return not any(number & answer for number in numbers if number is not None)


def _final_answer(turns: Sequence[Turn]) -> str:
    """The answer of the last turn: the argument of its answering call, or its text."""
    if not turns:
        return ""
    content = str(turns[-1].message.get("content") or "")
    for call in _calls(turns[-1]):
        arguments = call.get("arguments")
        if call.get("name") == ANSWER_TOOL and isinstance(arguments, Mapping):
            content = str(arguments.get("result", content))
    return committed_answer(content) or ""


class ToolDisciplineAsJudge:
    """Another judge's reward, less a penalty for each bad habit.

    The penalty of a habit is its weight times the share of the episode that shows it, for right and for wrong
    answers alike. Correctness stays the main signal: the weights together must be less than what the inner judge
    pays for being right.

    Args:
        inner: the judge of the answer, or its path (``module->Class``).
        penalties: weights by habit; habits not named cost nothing. None takes :attr:`DEFAULT_PENALTIES`.
        inner_arguments: keyword arguments of ``inner`` where it is a path.
        success_margin: least difference between the inner judge's reward for a right and for a wrong answer.

    Raises:
        ConfigError: an unknown habit, a negative weight, or weights that would let a wrong answer win.
    """

    DEFAULT_PENALTIES: Mapping[str, float] = {"no_print": 0.2, "premature_answer": 0.2, "malformed_call": 0.2}

    def __init__(
        self,
        inner: Judge | str = "astune.task_judge.math_answer_as_judge->MathAnswerAsJudge",
        penalties: Mapping[str, float] | None = None,
        inner_arguments: Mapping[str, Any] | None = None,
        success_margin: float = 1.0,
    ) -> None:
        self.inner = resolve_judge(inner, **(inner_arguments or {})) if isinstance(inner, str) else inner
        self.penalties = dict(self.DEFAULT_PENALTIES if penalties is None else penalties)
        _check_penalties(self.penalties, success_margin)

    async def compute_reward(self, judge_input_dictionary: dict[str, Any]) -> JudgeResult:
        """Returns the inner reward less the penalties, the inner success, and each part by name."""
        verdict = await run_judge(self.inner, judge_input_dictionary)
        shares = habit_shares(
            judge_input_dictionary.get("grouped_steps") or (), judge_input_dictionary.get("tool_calls") or ()
        )
        costs = {name: -weight * shares[name] for name, weight in self.penalties.items() if weight and shares[name]}
        inner = verdict.components or {"answer": verdict.raw_reward}
        return verdict.raw_reward + sum(costs.values()), verdict.is_success, {**inner, **costs}


def _check_penalties(penalties: Mapping[str, float], success_margin: float) -> None:
    for name, weight in penalties.items():
        if name not in HABITS:
            raise ConfigError(f"penalties: unknown habit {name!r}; the habits are {', '.join(HABITS)}")
        if not 0 <= weight < float("inf"):
            raise ConfigError(f"penalties.{name}: {weight} is no penalty; give a number of at least 0")
    total = sum(penalties.values())
    if total >= success_margin:
        raise ConfigError(
            f"penalties add up to {total:g}, so that a wrong answer could outscore a right one; "
            f"keep the sum below {success_margin:g}"
        )
