"""Conversations without tools: direct answers, critiques of attempts, and refined answers.

They use one-step problems with small numbers, in the seed's prompts and format. Right and wrong replies
are mixed in stated shares, so that there is something to refine and something to learn.
"""

from __future__ import annotations

from random import Random

from astune.models.nano.prompts import Message, answer_messages, critique_messages, refine_messages
from astune.task_reader.nano_gsm import FAMILIES, NanoProblem
from astune.task_reader.nano_gsm.family import draw_problem
from astune.task_reader.nano_gsm.generate import split_of

#: One-step families, and the largest answer that is asked without a tool.
FAMILIES_WITHOUT_TOOL = ("give_away", "get_more", "boxes", "share_equally")
LARGEST_ANSWER = 100

#: Shares of the three kinds of conversation: direct answer, critique, refine.
KIND_SHARES = {"answer": 0.3, "critique": 0.3, "refine": 0.4}
#: Share of direct answers, critiques and refined answers that are right.
RIGHT_ANSWERS, RIGHT_CRITIQUES, RIGHT_REFINEMENTS = 0.55, 0.75, 0.7
#: Share of attempts shown to the critic that are wrong; refined attempts always are.
WRONG_ATTEMPTS = 0.7


def draw_small_problem(rng: Random) -> NanoProblem:
    """A one-step training problem that can be solved without a tool."""
    while True:
        problem = draw_problem(FAMILIES[rng.choice(FAMILIES_WITHOUT_TOOL)], rng)
        if problem.answer <= LARGEST_ANSWER and split_of(problem.question) == "train":
            return problem


def calculation(problem: NanoProblem) -> str:
    """The one calculation of a one-step problem, without its result: ``"17 * 5"``."""
    return problem.program.split("\n")[0].partition(" = ")[2].replace("//", "/")


def near_miss(answer: int, rng: Random) -> int:
    """A wrong answer near the right one."""
    return max(answer + rng.choice((-10, -2, -1, 1, 2, 10)), 0) if answer else 1


def written_answer(problem: NanoProblem, value: int) -> str:
    """An answer in the seed's format, right or wrong."""
    return f"<think>{calculation(problem)} = {value}.</think>\n<answer>The answer is \\boxed{{{value}}}.</answer>"


def written_critique(problem: NanoProblem, attempted: int, claimed: int) -> str:
    """A critique that compares the attempted value with ``claimed``, the critic's own result."""
    think = f"<think>{calculation(problem)} = {claimed}. The solution says {attempted}.</think>\n"
    if claimed == attempted:
        return f"{think}The solution is correct and complete."
    return f"{think}The answer {attempted} is wrong. Compute {calculation(problem)} again and state the result."


def _attempt(problem: NanoProblem, value: int, rng: Random) -> str:
    return written_answer(problem, value) if rng.random() < 0.7 else f"The answer is \\boxed{{{value}}}."


def draw_refinement(rng: Random) -> tuple[list[Message], str]:
    """One conversation without tools: its messages and the policy's reply."""
    problem = draw_small_problem(rng)
    kind = rng.choices(list(KIND_SHARES), list(KIND_SHARES.values()))[0]
    if kind == "answer":
        value = problem.answer if rng.random() < RIGHT_ANSWERS else near_miss(problem.answer, rng)
        return answer_messages(problem.question), written_answer(problem, value)
    if kind == "critique":
        attempted = near_miss(problem.answer, rng) if rng.random() < WRONG_ATTEMPTS else problem.answer
        claimed = problem.answer if rng.random() < RIGHT_CRITIQUES else attempted
        attempt = _attempt(problem, attempted, rng)
        return critique_messages(problem.question, attempt), written_critique(problem, attempted, claimed)
    attempted = near_miss(problem.answer, rng)
    critique = written_critique(problem, attempted, problem.answer)
    if rng.random() < 0.5:  # the feedback alone, as an agent that hides the critic's thoughts passes it on
        critique = critique.partition("</think>\n")[2]
    value = problem.answer if rng.random() < RIGHT_REFINEMENTS else near_miss(problem.answer, rng)
    attempt = _attempt(problem, attempted, rng)
    return refine_messages(problem.question, attempt, critique), written_answer(problem, value)
