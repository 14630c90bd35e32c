"""The three sub-agents: answer, critique and refine. Each says what it asks, and the critic how it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from astune.refine.prompts import Message, Prompts, bundled_prompts
from astune.refine.verdict import VerdictReader, feedback_of, read_verdict

#: What the refiner is shown of a critique: all of it, or the feedback after ``</think>`` alone.
CritiqueView = Literal["all", "feedback"]

#: How many tokens a prompt is too long by; 0 or less where it fits.
Excess = Callable[[Sequence[Message]], int]

CUT_NOTE = "[cut to fit the context]"


class AnswerAgent:
    """Answers the question as it was put: the trainer's own first generation."""

    def messages(self, prompt: Sequence[Mapping[str, Any]]) -> list[Message]:
        """The conversation itself."""
        return [dict(message) for message in prompt]


@dataclass(frozen=True, slots=True)
class CritiqueAgent:
    """Reviews an answer. It sees the question (images included) and the answer, never the reference."""

    prompts: Prompts = field(default_factory=bundled_prompts)
    verdict_reader: VerdictReader = read_verdict

    def messages(self, prompt: Sequence[Mapping[str, Any]], answer: str) -> list[Message]:
        """What asks for a critique of ``answer``."""
        return self.prompts.critique(prompt, answer)

    def verdict(self, critique: str) -> bool | None:
        """Whether the critic calls the answer correct; None where it does not say."""
        return self.verdict_reader(critique)


@dataclass(frozen=True, slots=True)
class RefineAgent:
    """Improves an answer, with a critique or without."""

    prompts: Prompts = field(default_factory=bundled_prompts)
    critique_view: CritiqueView = "all"

    def shown(self, critique: str) -> str | None:
        """What is shown of a critique; None where nothing is left of it, and the refiner is asked without one."""
        text = feedback_of(critique) if self.critique_view == "feedback" else critique.strip()
        return text or None

    def messages(self, prompt: Sequence[Mapping[str, Any]], answer: str, shown: str | None) -> list[Message]:
        """What asks for an improved answer."""
        return self.prompts.refine(prompt, answer, shown)

    def fitted(
        self, prompt: Sequence[Mapping[str, Any]], answer: str, shown: str | None, excess: Excess | None
    ) -> str | None:
        """As much of ``shown`` as fits the context: all, or its end behind a note, or None.

        The end is kept because that is where the feedback stands; of the cuts that fit, the longest is found by
        bisection, so the cost is a few renderings and only where a prompt is too long.
        """
        if shown is None or excess is None or excess(self.messages(prompt, answer, shown)) <= 0:
            return shown
        fits, fails = 0, len(shown)
        while fails - fits > 1:
            middle = (fits + fails) // 2
            if excess(self.messages(prompt, answer, _end_of(shown, middle))) <= 0:
                fits = middle
            else:
                fails = middle
        return _end_of(shown, fits) if fits else None


def _end_of(text: str, characters: int) -> str:
    return f"{CUT_NOTE} {text[len(text) - characters :]}"


@dataclass(frozen=True, slots=True)
class SubAgents:
    """The three together; put one of your own in the place of any."""

    answer: AnswerAgent = field(default_factory=AnswerAgent)
    critique: CritiqueAgent = field(default_factory=CritiqueAgent)
    refine: RefineAgent = field(default_factory=RefineAgent)

    @classmethod
    def of(
        cls,
        prompts: Prompts | None = None,
        *,
        critique_view: CritiqueView = "all",
        verdict_reader: VerdictReader = read_verdict,
    ) -> SubAgents:
        """The bundled sub-agents on the given prompts."""
        texts = prompts or bundled_prompts()
        return cls(AnswerAgent(), CritiqueAgent(texts, verdict_reader), RefineAgent(texts, critique_view))
