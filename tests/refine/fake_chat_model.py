"""A chat model that says what a script says, for strategies whose decisions depend on exact words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from astune.refine.loop_state import Usage
from astune.refine.sub_agents import Excess
from astune.refine.transport import Reply

Words = Callable[[str, int], str]


class FakeScriptedModel:
    """Answers ``words(role, draw)``; each reply costs 10 tokens. Keeps what it was asked."""

    def __init__(self, words: Words, excess: Excess | None = None) -> None:
        self.name = "scripted"
        self.words = words
        self.excess = excess
        self.asked: list[tuple[str, int, str]] = []
        self.prompts: list[list[dict[str, Any]]] = []

    @property
    def roles(self) -> list[str]:
        return [role for role, _, _ in self.asked]

    async def reply(self, messages: Sequence[dict[str, Any]], *, role: str = "answer", draw: int = 1) -> Reply:
        self.asked.append((role, draw, str(messages[-1]["content"])))
        self.prompts.append(list(messages))
        return Reply(self.words(role, draw), Usage(10, 20))


def said(answers: Sequence[str], critiques: Sequence[str] = ("The answer is wrong.",)) -> Words:
    """The n-th draw of an answer or refinement is ``answers[n - 1]``; of a critique likewise, the last one repeated."""

    def words(role: str, draw: int) -> str:
        script = critiques if role == "critique" else answers
        return script[min(draw, len(script)) - 1]

    return words
