"""The data recipe: problems and habits in, chat segments out, exactly as inference will see them.

A conversation is a list of segments of text. Segments that the policy samples are marked; those between
(prompts and tool responses) are what the chat template puts there. Tokens are made by encoding each
segment by itself, as the sampler's renderer does, so training and sampling see the same ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from transformers import PreTrainedTokenizerBase

from astune.models.nano.habits import Habit, Malformation, draw_habit, draw_malformation
from astune.models.nano.prompts import (
    AGENTSCOPE_TOOLS,
    INVALID_CALL_OBSERVATION,
    PLAIN_TOOLS,
    Message,
    math_messages,
    observation,
)
from astune.models.nano.refinement import draw_refinement
from astune.task_reader.nano_gsm import NanoProblem, generate

#: Shares of the conversations: with AgentScope's tools, with the plain tool, without tools (answer, critique, refine).
AGENTSCOPE_SHARE, PLAIN_SHARE = 0.51, 0.34
#: Share of tool conversations whose program fails; only what comes after the error is learned.
FAILED_RUN_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a conversation; ``sampled`` is True where the policy wrote it."""

    text: str
    sampled: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One tokenised conversation. ``loss_mask`` is 1 at ids that the policy learns to sample."""

    ids: list[int]
    loss_mask: list[int]


class ChatText:
    """The text of prompts under the policy's chat template, with the fixed part rendered once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._cache: dict[str, str] = {}

    def opening(self, messages: list[Message], tools: list[dict[str, Any]] | None) -> str:
        """The first prompt, up to and including ``<|im_start|>assistant`` and its newline."""
        marker = "\0"
        key = json.dumps([messages[:-1], tools])
        if key not in self._cache:
            probe = [*messages[:-1], messages[-1] | {"content": marker}]
            rendered = self._tokenizer.apply_chat_template(
                probe,
                tools=list(tools) if tools else None,
                add_generation_prompt=True,
                tokenize=False,
            )
            self._cache[key] = str(rendered)
        return self._cache[key].replace(marker, messages[-1]["content"])

    @staticmethod
    def after_tool(content: str) -> str:
        """What stands between a turn's ``<|im_end|>`` and the next turn, when one tool answered ``content``."""
        return f"\n<|im_start|>user\n<tool_response>\n{content}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"


def wrong_guess(problem: NanoProblem, rng: Random) -> int:
    """A plausible wrong answer: near the right one, a step's value, or a number of the same length."""
    near = problem.answer + rng.choice((-10, -3, -2, -1, 1, 2, 3, 10))
    low = 10 ** (len(str(problem.answer)) - 1)
    same_length = rng.randrange(low, low * 10)
    guess = rng.choice((near, same_length, same_length, rng.choice(problem.values)))
    return guess if guess >= 0 and guess != problem.answer else problem.answer + rng.randint(1, 9)


def tool_call(name: str, arguments: dict[str, Any]) -> str:
    """A tool-call block in the policy's form."""
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def broken_call(code: str, malformation: Malformation) -> str:
    """A call of ``execute_python_code`` that does not parse."""
    whole = tool_call("execute_python_code", {"code": code})
    escaped = json.dumps(code)[1:-1]
    match malformation:
        case Malformation.MISSING_BRACE:
            return whole.replace('"}}\n', '"}\n')
        case Malformation.MISSING_QUOTE:
            return whole.replace('"}}\n', "}}\n")
        case Malformation.UNCLOSED_BLOCK:
            return whole.removesuffix("\n</tool_call>")
        case Malformation.RAW_NEWLINE:
            return whole.replace(escaped, code)
        case Malformation.SINGLE_QUOTES:
            return f"<tool_call>\n{{'name': 'execute_python_code', 'arguments': {{'code': '{escaped}'}}}}\n</tool_call>"


def final_turn(answer: int, structured: bool) -> str:
    """The last turn of an episode; ``structured`` hands the answer in through ``generate_response``, too."""
    boxed = f"\\boxed{{{answer}}}"
    text = f"The answer is {boxed}."
    return f"{text}\n{tool_call('generate_response', {'result': boxed})}" if structured else text


def first_turn(problem: NanoProblem, habit: Habit, structured: bool, rng: Random) -> str:
    """The first turn of an episode with the given habit."""
    program = problem.program
    if habit is Habit.MALFORMED:
        return f"{problem.plan}\n{broken_call(program, draw_malformation(problem.family, rng))}"
    if habit is Habit.NO_PRINT:
        program = program.rpartition("\n")[0]
    call = tool_call("execute_python_code", {"code": program})
    if habit is not Habit.PREMATURE:
        return f"{problem.plan}\n{call}"
    boxed = f"\\boxed{{{wrong_guess(problem, rng)}}}"
    answer = f"\n{tool_call('generate_response', {'result': boxed})}" if structured else ""
    return f"{problem.plan} The answer is {boxed}.\n{call}{answer}"


def _failed_run(problem: NanoProblem) -> tuple[str, str]:
    """A program with a misspelt name, and what the tool answers."""
    lines = problem.program.split("\n")
    lines[-1] = "print(result)"
    stderr = (
        "Traceback (most recent call last):\n"
        f'  File "<code>", line {len(lines)}, in <module>\n'
        "    print(result)\n           ^^^^^^\n"
        "NameError: name 'result' is not defined\n"
    )
    return "\n".join(lines), observation("", stderr, 1)


def tool_episode(chat: ChatText, problem: NanoProblem, habit: Habit, structured: bool, rng: Random) -> list[Segment]:
    """One episode of the math agent; ``structured`` offers AgentScope's two tools, else one."""
    tools = AGENTSCOPE_TOOLS if structured else PLAIN_TOOLS
    opening = Segment(chat.opening(math_messages(problem.question), tools), False)
    first = Segment(first_turn(problem, habit, structured, rng) + "<|im_end|>", True)
    answer = problem.answer
    if habit is Habit.PREMATURE:
        return [opening, first]
    seen = observation(f"{problem.answer}\n")
    if habit is not Habit.GOOD:
        seen = INVALID_CALL_OBSERVATION if habit is Habit.MALFORMED else observation("")
        answer = wrong_guess(problem, rng)
    elif rng.random() < FAILED_RUN_SHARE:
        program, seen = _failed_run(problem)
        call = tool_call("execute_python_code", {"code": program})
        first = Segment(f"{problem.plan}\n{call}<|im_end|>", False)
        answer = wrong_guess(problem, rng)
    final = Segment(final_turn(answer, structured) + "<|im_end|>", True)
    return [opening, first, Segment(chat.after_tool(seen), False), final]


def conversations(chat: ChatText, n: int, seed: int) -> Iterator[list[Segment]]:
    """``n`` conversations of the recipe, on distinct training problems."""
    rng = Random(f"recipe:{seed}")
    for problem in generate(n, seed, "train"):
        kind = rng.random()
        if kind < AGENTSCOPE_SHARE + PLAIN_SHARE:
            habit = draw_habit(problem.family, rng)
            yield tool_episode(chat, problem, habit, kind < AGENTSCOPE_SHARE, rng)
        else:
            messages, reply = draw_refinement(rng)
            yield [Segment(chat.opening(messages, None), False), Segment(reply + "<|im_end|>", True)]


def tokenise(tokenizer: PreTrainedTokenizerBase, conversations_: Iterable[list[Segment]]) -> list[Sample]:
    """Encodes each segment by itself and joins them."""
    listed = list(conversations_)
    texts = [segment.text for segments in listed for segment in segments]
    encoded = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    samples = []
    for segments in listed:
        ids: list[int] = []
        mask: list[int] = []
        for segment in segments:
            piece = next(encoded)
            ids += piece
            mask += [int(segment.sampled)] * len(piece)
        samples.append(Sample(ids, mask))
    return samples
