"""What strategies have in common: what they are made from, the three things they ask a model, and how they run."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from astune.errors import ConfigError
from astune.refine.loop import Clock, Result, Watch, arefine
from astune.refine.loop_state import MASKED, Attempt, Metered, Reflection, Score, State
from astune.refine.memory import EpisodicMemory
from astune.refine.prompts import Message
from astune.refine.select import Selector, keep_best
from astune.refine.stop import Rounds, StopCondition
from astune.refine.sub_agents import SubAgents
from astune.refine.transport import ChatModel, Reply

TextState = State[str, str]

#: What the critic's verdict is worth as a score: correct, wrong, says neither.
VERDICT_SCORES = {True: 1.0, False: 0.0, None: 0.5}


@dataclass(frozen=True, slots=True)
class Setting:
    """What a strategy is made from.

    Attributes:
        model: answers, criticises and refines.
        prompt: the conversation to answer.
        rounds: most attempts.
        judge: an independent scorer; None where there is none.
        memory: lessons of earlier runs; None for a memory of this loop alone.
        budget: a further reason to stop, for example ``Tokens(2000) | Seconds(60)``.
        agents: what the critic and the refiner are told.
        recalled: lessons shown at a time.

    Raises:
        ConfigError: no rounds.
    """

    model: ChatModel
    prompt: Sequence[Message]
    rounds: int = 3
    judge: ChatModel | None = None
    memory: EpisodicMemory | None = None
    budget: StopCondition | None = None
    agents: SubAgents = field(default_factory=SubAgents.of)
    recalled: int = 3

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"rounds is {self.rounds}: give at least 1, the first attempt")

    @property
    def limit(self) -> StopCondition:
        """Rounds, and the budget where there is one."""
        return Rounds(self.rounds) if self.budget is None else Rounds(self.rounds) | self.budget

    async def answer(self, state: TextState) -> list[Metered[str]]:
        """A first attempt, or another one that knows nothing of those before."""
        return [metered(await self.model.reply(self.prompt, role="answer", draw=len(state.rounds)))]

    async def critique(self, answer: str, draw: int, critic: ChatModel | None = None) -> tuple[Reply, bool | None]:
        """A critique of ``answer`` and its verdict, by the model itself or by another critic."""
        messages = self.agents.critique.messages(self.prompt, answer)
        reply = await (critic or self.model).reply(messages, role="critique", draw=draw)
        return reply, self.agents.critique.verdict(reply.text)

    async def refine(self, answer: str, critique: str | None, draw: int) -> list[Metered[str]]:
        """An improved attempt; a critique too long for the context is cut."""
        refiner = self.agents.refine
        said = None if critique is None else refiner.shown(critique)
        shown = refiner.fitted(self.prompt, answer, said, self.model.excess)
        return [metered(await self.model.reply(refiner.messages(self.prompt, answer, shown), role="refine", draw=draw))]

    async def scored_by(self, critic: ChatModel, state: TextState, candidates: Sequence[str]) -> list[Score]:
        """The critic's verdict on each candidate as its score, the critique as feedback. Empty ones are masked."""
        scores = []
        for candidate, masked in zip(candidates, masks(candidates), strict=True):
            if masked.valid:
                reply, verdict = await self.critique(candidate, len(state.rounds), critic)
                scores.append(Score(VERDICT_SCORES[verdict], reply.text, verdict, usage=reply.usage))
            else:
                scores.append(masked)
        return scores


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to spend rounds: the steps of the loop, when it ends, and which attempt is the answer."""

    generate: Callable[[TextState], Awaitable[list[Metered[str]]]]
    evaluate: Callable[[TextState, list[str]], Awaitable[Sequence[Score]]]
    stop: StopCondition
    select: Selector = keep_best
    reflect: Callable[[TextState, Attempt[str]], Awaitable[Reflection[str]]] | None = None

    async def run(self, *, watch: Watch | None = None, clock: Clock = time.monotonic) -> Result[str, str]:
        """Runs the loop.

        Raises:
            AllInvalidError: the first attempt is empty, or has no answer where one is needed.
            AstuneError: the model could not be asked for a first attempt.
        """
        return await arefine(
            self.generate,
            self.evaluate,
            self.reflect,
            stop=self.stop,
            select=self.select,
            watch=watch,
            clock=clock,
        )


#: Makes a strategy from a setting.
MakeStrategy = Callable[[Setting], Strategy]


def metered(reply: Reply) -> Metered[str]:
    """A reply as a candidate."""
    return Metered(reply.text, reply.usage)


def masks(candidates: Sequence[str]) -> list[Score]:
    """0 for a text, -inf for an empty one."""
    return [Score(0.0) if text.strip() else Score(MASKED, reason="the answer is empty") for text in candidates]


async def nonempty(_: Any, candidates: Sequence[str]) -> list[Score]:
    """Scores nothing, but masks empty texts."""
    return masks(candidates)
