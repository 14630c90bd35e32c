"""Measures the bundled policy: success and the rate of each habit, by problem family and tool set.

``python -m astune.models.nano.measure FOLDER`` plays whole episodes on held-out problems, sampled at
temperature 1 and greedy, through the sampler and the sandbox of the main job, and prints the rates as
JSON. ``--write`` puts them into the folder's measured.json and model card.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from renderers import Qwen3Renderer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from astune.models.nano import NANO_PATH
from astune.models.nano.card import with_measured
from astune.models.nano.habits import MODAL_HABIT, Habit
from astune.models.nano.prompts import (
    AGENTSCOPE_TOOLS,
    INVALID_CALL_OBSERVATION,
    PLAIN_TOOLS,
    Message,
    answer_messages,
    critique_messages,
    math_messages,
    refine_messages,
)
from astune.models.nano.refinement import FAMILIES_WITHOUT_TOOL, LARGEST_ANSWER, near_miss, written_answer
from astune.report.statistics import wilson_interval
from astune.rollout.engine import LocalEngine
from astune.rollout.types import Engine, Sampling
from astune.task_reader.nano_gsm import FAMILIES, NanoProblem, generate
from astune.tools.python_tool import execute_python_code
from astune.trace import Turn

MAX_TURNS = 4
MAX_TOKENS = 160
#: Share of episodes with AgentScope's two tools, as in the recipe: three of five.
_STRUCTURED = (True, False, True, False, True)
_BOXED = re.compile(r"\\boxed\{(-?\d+)\}")
_SILENT = "<returncode>0</returncode><stdout></stdout>"


T = TypeVar("T")


@dataclass(slots=True)
class Play:
    """One episode: its turns, the habits that showed, and the final answer (None: none was given)."""

    problem: NanoProblem
    structured: bool
    turns: list[Turn] = field(default_factory=list)
    observations: list[str] = field(default_factory=list)
    habits: set[Habit] = field(default_factory=set)
    answer: int | None = None

    @property
    def success(self) -> bool:
        """The final answer is the right one."""
        return self.answer == self.problem.answer


def boxed(text: str) -> int | None:
    """The last boxed integer of a text; None without one."""
    found = _BOXED.findall(text)
    return int(found[-1]) if found else None


class Player:
    """Plays episodes of the math agent with one model, all at once."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.renderer = Qwen3Renderer(tokenizer)

    def play(self, problems: Sequence[NanoProblem], temperature: float, seed: int) -> list[Play]:
        """One episode for each problem, with two tools in three of five."""
        return asyncio.run(self._play(problems, temperature, seed))

    def reply(self, conversations: Sequence[list[Message]], temperature: float, seed: int) -> list[str]:
        """One turn without tools for each conversation, as text."""
        return asyncio.run(self._reply(conversations, temperature, seed))

    async def _reply(self, conversations: Sequence[list[Message]], temperature: float, seed: int) -> list[str]:
        engine = LocalEngine(self.model)
        stops = tuple(self.renderer.get_stop_token_ids())

        async def one(messages: list[Message], number: int) -> str:
            prompt = self.renderer.render_ids(messages, add_generation_prompt=True)
            sampling = Sampling(MAX_TOKENS, temperature, stop_token_ids=stops, seed=number)
            with engine.session((number,)) as session:
                turn = await engine.generate(prompt, sampling, session)
            return str(self.tokenizer.decode(turn.completion_ids, skip_special_tokens=True))

        numbered = [one(messages, seed * 1_000_003 + index) for index, messages in enumerate(conversations)]
        return await asyncio.gather(*numbered)

    async def _play(self, problems: Sequence[NanoProblem], temperature: float, seed: int) -> list[Play]:
        engine = LocalEngine(self.model)
        coroutines = []
        for index, problem in enumerate(problems):
            block = index // len(FAMILIES)  # families take turns: every family meets both tool sets
            play = Play(problem, _STRUCTURED[(index + block) % len(_STRUCTURED)])
            coroutines.append(self._episode(engine, play, temperature, seed * 1_000_003 + index))
        return await asyncio.gather(*coroutines)

    async def _episode(self, engine: Engine, play: Play, temperature: float, seed: int) -> Play:
        tools = AGENTSCOPE_TOOLS if play.structured else PLAIN_TOOLS
        prompt = self.renderer.render_ids(math_messages(play.problem.question), tools=tools, add_generation_prompt=True)
        stops = tuple(self.renderer.get_stop_token_ids())
        with engine.session((seed,)) as session:
            for number in range(MAX_TURNS):
                sampling = Sampling(MAX_TOKENS, temperature, stop_token_ids=stops, seed=seed + number)
                turn = await engine.generate(prompt, sampling, session)
                play.turns.append(turn)
                content = await self._act(play, turn)
                if content is None:
                    break
                play.observations.append(content)
                message = {"role": "tool", "content": content}
                bridged = self.renderer.bridge_to_next_turn(prompt, turn.completion_ids, [message], tools=tools)
                if bridged is None:
                    break
                prompt = bridged.token_ids
        return play

    async def _act(self, play: Play, turn: Turn) -> str | None:
        """Does what the turn says and notes its habits. Returns the observation; None ends the episode."""
        parsed = self.renderer.parse_response(turn.completion_ids)
        calls = {call.name: call.arguments for call in parsed.tool_calls if call.status.value == "ok"}
        broken = len(calls) < len(parsed.tool_calls)
        if broken:
            play.habits.add(Habit.MALFORMED)
        handed_in = boxed(str(calls.get("generate_response", "")))
        answer = handed_in if handed_in is not None else boxed(parsed.content or "")
        if answer is not None or not parsed.tool_calls:
            play.answer = answer
            if "execute_python_code" in calls:
                play.habits.add(Habit.PREMATURE)
            return None
        code = (calls.get("execute_python_code") or {}).get("code")
        if broken or not isinstance(code, str):
            return INVALID_CALL_OBSERVATION
        content = await execute_python_code(code)
        if content.startswith(_SILENT):
            play.habits.add(Habit.NO_PRINT)
        return content


def rate(items: Sequence[T], shows: Callable[[T], bool]) -> dict[str, Any]:
    """Share of ``items`` that show something, with its 95 % Wilson interval."""
    hits, n = sum(map(shows, items)), len(items)
    low, high = wilson_interval(hits, n)
    return {"rate": round(hits / max(n, 1), 4), "n": n, "ci95": [round(low, 4), round(high, 4)]}


def summarise(plays: Sequence[Play]) -> dict[str, Any]:
    """Rates over episodes: success, each habit, and success where no bad habit showed."""
    rates = {"success": rate(plays, lambda play: play.success)}
    for habit in (Habit.NO_PRINT, Habit.PREMATURE, Habit.MALFORMED):
        rates[habit.value] = rate(plays, lambda play, habit=habit: habit in play.habits)  # type: ignore[misc]
    rates["success_without_bad_habit"] = rate([play for play in plays if not play.habits], lambda play: play.success)
    return rates


def measure_refinement(player: Player, n: int, temperature: float, seed: int) -> dict[str, Any]:
    """Rates of the turns without tools, on held-out small problems, each in its own conversation.

    ``refine`` starts from a wrong answer and reads the policy's own critique of it.
    """
    rng = Random(f"measure_refinement:{seed}")
    problems = generate(n, seed, "test", FAMILIES_WITHOUT_TOOL, LARGEST_ANSWER)

    def right(reply: tuple[str, NanoProblem]) -> bool:
        return boxed(reply[0]) == reply[1].answer

    def replies(conversations: list[list[Message]]) -> list[str]:
        return player.reply(conversations, temperature, seed)

    answers = replies([answer_messages(problem.question) for problem in problems])
    wrong = [written_answer(problem, near_miss(problem.answer, rng)) for problem in problems]
    gold = [written_answer(problem, problem.answer) for problem in problems]
    asked = list(zip(problems, wrong, strict=True))
    critiques = replies([critique_messages(problem.question, attempt) for problem, attempt in asked])
    praised = replies([critique_messages(p.question, attempt) for p, attempt in zip(problems, gold, strict=True)])
    refined = replies(
        [refine_messages(p.question, attempt, c) for (p, attempt), c in zip(asked, critiques, strict=True)]
    )
    return {
        "answer": rate(list(zip(answers, problems, strict=True)), right),
        "wrong_attempt_called_wrong": rate(critiques, lambda text: "is wrong" in text),
        "right_attempt_called_right": rate(praised, lambda text: "is correct" in text),
        "refine": rate(list(zip(refined, problems, strict=True)), right),
    }


def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, per_family: int, seed: int) -> dict[str, Any]:
    """Everything the card reports: overall, by tool set and by family; sampled at temperature 1 and greedy."""
    player = Player(model, tokenizer)
    problems = generate(per_family * len(FAMILIES), seed, "test")
    report: dict[str, Any] = {"seed": seed, "n": len(problems)}
    for name, temperature in (("sampled", 1.0), ("greedy", 0.0)):
        plays = player.play(problems, temperature, seed)
        report[name] = {
            "all": summarise(plays),
            "agentscope_tools": summarise([play for play in plays if play.structured]),
            "plain_tool": summarise([play for play in plays if not play.structured]),
            "without_tools": measure_refinement(player, 5 * per_family, temperature, seed),
            "families": {
                family: summarise([play for play in plays if play.problem.family == family]) for family in FAMILIES
            },
        }
    return report


def show(player: Player, plays: Sequence[Play]) -> None:
    """Prints whole transcripts, to look at."""
    for play in plays:
        family = play.problem.family
        print(f"--- {family} (mostly {MODAL_HABIT[family]}): {play.problem.question}")
        for number, turn in enumerate(play.turns):
            print(player.tokenizer.decode(turn.completion_ids))
            print("\n".join(play.observations[number : number + 1]))
        print(f"=> {play.answer}, right is {play.problem.answer}; {', '.join(sorted(play.habits)) or 'no bad habit'}\n")


def main() -> None:
    """Measures the model in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=NANO_PATH)
    parser.add_argument("--per-family", type=int, default=40, help="held-out problems of each family")
    parser.add_argument("--seed", type=int, default=20_261)
    parser.add_argument("--write", action="store_true", help="write measured.json and the card's tables")
    parser.add_argument("--show", type=int, default=0, help="print this many sampled transcripts instead")
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(arguments.folder)
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder)
    if arguments.show:
        player = Player(model, tokenizer)
        show(player, player.play(generate(arguments.show, arguments.seed, "test"), 1.0, arguments.seed))
        return
    report = measure(model, tokenizer, arguments.per_family, arguments.seed)
    text = json.dumps(report, indent=1) + "\n"
    if arguments.write:
        (arguments.folder / "measured.json").write_text(text, encoding="utf-8")
        card = arguments.folder / "README.md"
        if card.exists():
            card.write_text(with_measured(card.read_text(encoding="utf-8"), report), encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
