"""Measures the refining policy's turns, chained as self-refinement chains them: answer, critique, refined answer.

``python -m astune.models.nano_refine.measure FOLDER`` prints the rates as JSON; ``--write`` puts them into the
folder's measured.json and model card.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from astune.models.nano.measure import Player, boxed, rate, summarise
from astune.models.nano.prompts import Message, answer_messages, critique_messages, refine_messages
from astune.models.nano_refine import NANO_REFINE_PATH
from astune.models.nano_refine.card import with_measured
from astune.models.nano_refine.refinement import FAMILIES_TO_REFINE, FAMILIES_WITHOUT_TOOL, LARGEST_NUMBER, SAYS
from astune.refine.verdict import read_verdict
from astune.task_reader.nano_gsm import NanoProblem, generate

#: Samples one reply to each conversation.
Reply = Callable[[list[list[Message]]], list[str]]

_CALCULATED = re.compile(rf"= (\d+)\.{SAYS}")


@dataclass(frozen=True, slots=True)
class Chain:
    """One problem and what the policy wrote: an answer, its critique, and refined answers with and without it."""

    problem: NanoProblem
    answer: str
    critique: str
    refined: str
    refined_alone: str

    @property
    def right_at_first(self) -> bool:
        """The direct answer is right."""
        return boxed(self.answer) == self.problem.answer

    @property
    def right_with_critique(self) -> bool:
        """The refined answer that read the critique is right."""
        return boxed(self.refined) == self.problem.answer

    @property
    def right_without_critique(self) -> bool:
        """The refined answer that read no critique is right."""
        return boxed(self.refined_alone) == self.problem.answer

    @property
    def calculated(self) -> int | None:
        """The critic's own result; None where it did not calculate."""
        found = _CALCULATED.search(self.critique)
        return int(found[1]) if found else None

    @property
    def verdict_is_right(self) -> bool:
        """The critic approves a right answer or blames a wrong one."""
        return read_verdict(self.critique) is self.right_at_first


def play_chains(reply: Reply, problems: Sequence[NanoProblem]) -> list[Chain]:
    """Answers, critiques and refines every problem once, whether or not the answer is right."""
    questions = [problem.question for problem in problems]
    answers = reply([answer_messages(question) for question in questions])
    attempts = list(zip(questions, answers, strict=True))
    critiques = reply([critique_messages(question, answer) for question, answer in attempts])
    judged = zip(attempts, critiques, strict=True)
    refined = reply([refine_messages(*attempt, critique) for attempt, critique in judged])
    alone = reply([refine_messages(question, answer) for question, answer in attempts])
    return [Chain(*texts) for texts in zip(problems, answers, critiques, refined, alone, strict=True)]


def summarise_chains(chains: Sequence[Chain]) -> dict[str, Any]:
    """Rates of first answers, refined answers and critiques.

    ``_a`` is P(refined right | first wrong), ``_b`` is P(refined wrong | first right).
    """
    wrong = [chain for chain in chains if not chain.right_at_first]
    right = [chain for chain in chains if chain.right_at_first]
    calculated = [chain for chain in chains if chain.calculated is not None]
    return {
        "answer": rate(chains, lambda chain: chain.right_at_first),
        "refined": rate(chains, lambda chain: chain.right_with_critique),
        "refined_a": rate(wrong, lambda chain: chain.right_with_critique),
        "refined_b": rate(right, lambda chain: not chain.right_with_critique),
        "refined_alone": rate(chains, lambda chain: chain.right_without_critique),
        "refined_alone_a": rate(wrong, lambda chain: chain.right_without_critique),
        "refined_alone_b": rate(right, lambda chain: not chain.right_without_critique),
        "critique_calculates": rate(chains, lambda chain: chain.calculated is not None),
        "calculation_right": rate(calculated, lambda chain: chain.calculated == chain.problem.answer),
        "wrong_called_wrong": rate(wrong, lambda chain: chain.verdict_is_right),
        "right_called_right": rate(right, lambda chain: chain.verdict_is_right),
    }


def measure(player: Player, n: int, seed: int) -> dict[str, Any]:
    """Chains on ``n`` problems of the families to refine, chains of every family, and ``nano``'s episodes."""
    to_refine = generate(n, seed, "test", FAMILIES_TO_REFINE, LARGEST_NUMBER)
    every = generate(n // 2, seed, "test", FAMILIES_WITHOUT_TOOL, LARGEST_NUMBER)
    episodes = generate(n * 9 // 10, seed, "test")
    report: dict[str, Any] = {"seed": seed}
    for name, temperature in (("sampled", 1.0), ("greedy", 0.0)):
        reply = partial(player.reply, temperature=temperature, seed=seed)
        chains = play_chains(reply, to_refine)
        others = [*chains, *play_chains(reply, every)]
        report[name] = {
            "chains": summarise_chains(chains),
            "families": {
                family: summarise_chains([chain for chain in others if chain.problem.family == family])
                for family in FAMILIES_WITHOUT_TOOL
            },
            "episodes": summarise(player.play(episodes, temperature, seed)),
        }
    return report


def main() -> None:
    """Measures the model in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=NANO_REFINE_PATH)
    parser.add_argument("--n", type=int, default=800, help="held-out problems of the families to refine")
    parser.add_argument("--seed", type=int, default=20_261)
    parser.add_argument("--write", action="store_true", help="write measured.json and the card's tables")
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(arguments.folder)
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder)
    report = measure(Player(model, tokenizer), arguments.n, arguments.seed)
    text = json.dumps(report, indent=1) + "\n"
    if arguments.write:
        (arguments.folder / "measured.json").write_text(text, encoding="utf-8")
        card = arguments.folder / "README.md"
        if card.exists():
            card.write_text(with_measured(card.read_text(encoding="utf-8"), report), encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
