"""Each bad habit is seen in the records, and costs less than a wrong answer."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from astune.errors import ConfigError
from astune.task_judge.math_answer_as_judge import MathAnswerAndToolDisciplineAsJudge
from astune.task_judge.registry import resolve_judge
from astune.task_judge.tool_discipline import HABITS, ToolDisciplineAsJudge, habit_shares, habits
from astune.task_reader.types import Task
from astune.trace import StopReason, ToolCall, Turn
from astune.workflow.types import WorkflowTask

PYTHON = {"name": "execute_python_code", "arguments": {"code": "print(9 * 2)"}, "status": "ok"}
BROKEN = {"name": "invalid_tool_call", "arguments": '{"name": "execute_python_code", "argu', "status": "invalid_json"}
BROKEN_ANSWER = {"name": "invalid_tool_call", "arguments": '{"name": "generate_response"', "status": "unclosed_block"}
ANSWER = {"name": "generate_response", "arguments": {"result": r"\boxed{18}"}, "status": "ok"}


def turn(content: str = "", *calls: dict[str, Any]) -> Turn:
    message = {"role": "assistant", "content": content, "tool_calls": list(calls)}
    return Turn([1], [2], [0.0], StopReason.EOS, message=message)


def ran(stdout: str, returncode: int = 0) -> ToolCall:
    output = f"<returncode>{returncode}</returncode><stdout>{stdout}</stdout><stderr></stderr>"
    return ToolCall("execute_python_code", {"code": "..."}, output, returncode, "exit", 0.01)


GOOD = ([turn("Multiply.", PYTHON), turn(r"The answer is \boxed{18}.", ANSWER)], [ran("18\n")])


def shown(turns: list[Turn], calls: list[ToolCall]) -> set[str]:
    found = habits(turns, calls)
    assert tuple(found) == HABITS
    return {name for name, is_shown in found.items() if is_shown}


@pytest.mark.parametrize("last", [turn(r"The answer is \boxed{18}."), turn("Done.", ANSWER), GOOD[0][1]])
def test_a_good_episode_shows_none(last: Turn) -> None:
    assert shown([turn("Multiply.", PYTHON), last], [ran("18\n")]) == set()


@pytest.mark.parametrize("stdout", ["", "\n", "  "])
def test_code_that_prints_nothing_is_no_print(stdout: str) -> None:
    assert shown(GOOD[0], [ran(stdout)]) == {"no_print"}


def test_code_that_failed_is_not_no_print() -> None:
    assert shown(GOOD[0], [ran("", returncode=1)]) == set()


def test_bare_stdout_is_understood_as_output() -> None:
    assert shown(GOOD[0], [ToolCall("execute_python_code", {}, "18\n", 0, "exit", 0.0)]) == set()


@pytest.mark.parametrize(
    "turns",
    [[turn(r"\boxed{18}", PYTHON)], [turn("", PYTHON, ANSWER)], [turn("", ANSWER, PYTHON)]],
    ids=["boxed text", "answer after", "answer before"],
)
def test_a_turn_that_calls_and_answers_is_premature(turns: list[Turn]) -> None:
    assert shown(turns, [ran("18\n")]) == {"premature_answer"}


def test_an_answer_beside_a_broken_call_is_premature_and_malformed() -> None:
    assert shown([turn(r"\boxed{18}", BROKEN)], []) == {"premature_answer", "malformed_call"}


def test_a_broken_answering_call_is_malformed_and_not_premature() -> None:
    turns = [turn("Multiply.", PYTHON), turn(r"\boxed{18}", BROKEN_ANSWER)]
    assert shown(turns, [ran("18\n")]) == {"malformed_call"}


def test_a_number_that_no_call_printed_is_an_unused_result() -> None:
    assert shown(GOOD[0], [ran("17\n")]) == {"unused_result"}


@pytest.mark.parametrize("stdout", ["18.0", "total: 18 dollars", "a = 9\nb = 18"])
def test_a_printed_value_counts_as_used_in_any_spelling(stdout: str) -> None:
    assert shown(GOOD[0], [ran(stdout)]) == set()


def test_an_episode_without_calls_never_called() -> None:
    assert shown([turn(r"\boxed{18}")], []) == {"never_called"}


def test_an_empty_episode_never_called() -> None:
    assert shown([], []) == {"never_called"}


def test_shares_say_how_much_of_the_episode_shows_a_habit() -> None:
    turns = [turn("", BROKEN), turn("", PYTHON), turn("", PYTHON), turn("", PYTHON, ANSWER)]
    shares = habit_shares(turns, [ran(""), ran("18"), ran("18")])
    assert (shares["no_print"], shares["premature_answer"], shares["malformed_call"]) == (1 / 3, 1 / 4, 1 / 5)


def evidence(answer: str, turns: list[Turn], calls: list[ToolCall]) -> dict[str, Any]:
    task = WorkflowTask(Task("t", "q", "18"))
    return {"workflow_task": task, "grouped_steps": turns, "tool_calls": calls, "final_answer": answer}


async def test_a_good_episode_earns_the_inner_reward() -> None:
    judge = MathAnswerAndToolDisciplineAsJudge()
    assert await judge.compute_reward(evidence(r"\boxed{18}", *GOOD)) == (1.0, True, {"correct": 1.0})


async def test_a_penalty_is_the_weight_times_the_share() -> None:
    judge = MathAnswerAndToolDisciplineAsJudge(penalties={"no_print": 0.4})
    reward, is_success, components = await judge.compute_reward(evidence("18", GOOD[0], [ran(""), ran("18")]))
    assert (reward, is_success, components) == (0.8, True, {"correct": 1.0, "no_print": -0.2})


async def test_a_right_answer_with_every_habit_beats_a_wrong_one_with_none() -> None:
    judge = MathAnswerAndToolDisciplineAsJudge(penalties=dict.fromkeys(HABITS, 0.19))
    worst = 1.0
    shapes = [turn(r"\boxed{18}", BROKEN), turn(r"\boxed{18}", PYTHON), turn("", PYTHON), turn("x")]
    for turns in itertools.product(shapes, repeat=2):
        for calls in ([], [ran("")], [ran("17")]):
            worst = min(worst, (await judge.compute_reward(evidence("18", list(turns), calls)))[0])
    best_wrong, _, _ = await judge.compute_reward(evidence("17", *GOOD))
    assert worst >= best_wrong == 0.0


@pytest.mark.parametrize(
    ("penalties", "message"),
    [
        ({"no_prnt": 0.1}, "unknown habit 'no_prnt'"),
        ({"no_print": -0.1}, "no penalty"),
        ({"no_print": float("nan")}, "no penalty"),
        ({"no_print": 0.5, "premature_answer": 0.5}, "a wrong answer could outscore a right one"),
    ],
)
def test_penalties_that_would_mislead_are_refused(penalties: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ToolDisciplineAsJudge(penalties=penalties)


def test_it_is_configured_by_path() -> None:
    path = "astune.task_judge.math_answer_as_judge->MathAnswerAndToolDisciplineAsJudge"
    judge = resolve_judge(path, penalties={"malformed_call": 0.3})
    assert judge.penalties == {"malformed_call": 0.3}  # type: ignore[attr-defined]
