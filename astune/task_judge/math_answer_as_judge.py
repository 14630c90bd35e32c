r"""Judges of mathematical answers, and the function under them: :func:`answers_match`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from astune.errors import ConfigError, JudgeError
from astune.task_judge.answer_text import committed_answer, extract_boxed
from astune.task_judge.plain_number import normalise, read_number, strip_wrapping
from astune.task_judge.symbolic import as_expression, expressions_match, gathers_more
from astune.task_judge.tool_discipline import ToolDisciplineAsJudge

__all__ = [
    "MathAnswerAndLlmAsJudge",
    "MathAnswerAndToolDisciplineAsJudge",
    "MathAnswerAsJudge",
    "answers_match",
    "extract_boxed",
]


def answers_match(answer: str, reference: str) -> bool | None:
    r"""Whether ``answer`` and ``reference`` are the same value; None where that cannot be told.

    The answer is the last balanced ``\boxed{}`` (see :func:`~astune.task_judge.answer_text.committed_answer` for
    texts without one). Plain numbers in any usual spelling are compared exactly, here: ``33.33`` is not ``100/3``.
    Units, currency and percent signs are dropped on both sides, so ``25\%`` matches ``25`` and not ``0.25``.
    Other expressions go to math-verify inside the sandbox, floats to 12 decimals.

    An answer that gives several values where the reference is one (``17 or 18``) is False. None means: no
    answer, words without a number, an expression that cannot be read, or one that the grader had to stop on.

    Safe to call in any thread, also one that runs an event loop; blocks a few seconds at most.
    """
    given, gold = committed_answer(answer), committed_answer(reference)
    if given is None or gold is None:
        return None
    given_number, gold_number = read_number(normalise(given)), read_number(normalise(gold), letters_are_units=False)
    if given_number is not None and gold_number is not None:
        return bool(given_number & gold_number)
    given, gold = strip_wrapping(given), strip_wrapping(gold)
    return True if given == gold else _compare_expressions(given, gold)


def _compare_expressions(given: str, gold: str) -> bool | None:
    given_expression, gold_expression = as_expression(given), as_expression(gold)
    if gold_expression is None:  # words: the same ones, or who knows
        return True if given.casefold() == gold.casefold() else None
    if given_expression is None:
        lists_numbers = "\\" not in given and _count_numbers(given) > 1 >= _count_numbers(gold)
        return False if lists_numbers else None
    if gathers_more(given_expression, gold_expression):
        return False
    return _cached_match(given_expression, gold_expression)


def _count_numbers(text: str) -> int:
    return len(re.findall(r"\d[\d.,]*", text, re.ASCII))


@lru_cache(maxsize=4096)
def _cached_match(given: str, gold: str) -> bool | None:
    return expressions_match(given, gold)


class MathAnswerAsJudge:
    """Pays 1 for the right final answer and 0 for any other.

    Reads ``final_answer`` and the task's reference. An episode without a final answer has failed; one whose answer
    cannot be graded gets 0 with ``is_success`` None.
    """

    #: Grading may wait for the sandbox: :func:`~astune.task_judge.registry.run_judge` asks in a worker thread.
    may_block = True

    def compute_reward(self, judge_input_dictionary: dict[str, Any]) -> tuple[float, bool | None, dict[str, float]]:
        """Returns the reward, the success, and the component ``correct``.

        Raises:
            JudgeError: the task has no reference answer.
        """
        task = judge_input_dictionary["workflow_task"].task
        if not task.answer:
            raise JudgeError(f"task {task.task_id!r} has no reference answer: give its record one")
        answer = judge_input_dictionary.get("final_answer")
        is_success = answers_match(str(answer), task.answer) if answer not in (None, "") else False
        reward = 1.0 if is_success else 0.0
        return reward, is_success, {"correct": reward}


class MathAnswerAndToolDisciplineAsJudge(ToolDisciplineAsJudge):
    """:class:`MathAnswerAsJudge`, less penalties for bad tool habits; takes the arguments of its base."""


class MathAnswerAndLlmAsJudge:
    """The answer's correctness joined with a language model's grade of the reasoning.

    It needs a model behind an OpenAI-compatible endpoint, which this release does not reach yet, and says so when
    it is made; nothing is graded in its name by other means.

    Raises:
        ConfigError: always, in this release.
    """

    def __init__(self, base_url: str | None = None, model: str | None = None) -> None:
        given = ", ".join(f"{name}={value!r}" for name, value in (("base_url", base_url), ("model", model)) if value)
        raise ConfigError(
            "MathAnswerAndLlmAsJudge needs a judge model behind an OpenAI-compatible endpoint (base_url, model)"
            f"{f'; {given} was given' if given else ''}. This release cannot ask it yet: use "
            "astune.task_judge.math_answer_as_judge->MathAnswerAsJudge or ->MathAnswerAndToolDisciplineAsJudge"
        )
