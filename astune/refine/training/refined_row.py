"""One first answer and what refinement made of it, as episodes; and as the chains that credit and outcomes read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from astune.refine.training.credit import Chain
from astune.refine.types import Grade, History
from astune.report.metrics import is_solved
from astune.rollout.messages import spoken
from astune.trace import Episode


@dataclass(frozen=True, slots=True)
class RefinedRow:
    """A first answer with its critiques and further attempts.

    Attributes:
        first: the first answer.
        critiques: critique k is of attempt k. One that failed is among them, and has no tokens to train.
        refined: attempts 2, 3, ... that were made.
        verdicts: the critic's word on attempt k, None where it said nothing.
        failed: whether a further attempt was asked for and none came.
        shortened: critiques that were cut to fit the context.
        task: which task of the batch it belongs to.
    """

    first: Episode
    critiques: list[Episode] = field(default_factory=list)
    refined: list[Episode] = field(default_factory=list)
    verdicts: tuple[bool | None, ...] = ()
    failed: bool = False
    shortened: int = 0
    task: int = 0

    @classmethod
    def of(cls, first: Episode, history: History | None, task: int) -> RefinedRow:
        """From what the rounds returned for it, None where it was not refined."""
        rounds = [] if history is None else history.rounds
        asked = [done for done in rounds if done.critique is not None]
        return cls(
            first,
            critiques=[done.critique.detail for done in asked if done.critique is not None],
            refined=[done.refined.sample.detail for done in rounds if done.refined is not None],
            verdicts=tuple(done.verdict for done in asked),
            failed=history is not None and history.stopped == "failed",
            shortened=sum(done.shortened for done in rounds),
            task=task,
        )

    @property
    def attempts(self) -> list[Episode]:
        """The first answer and every refined one."""
        return [self.first, *self.refined]

    @property
    def chain(self) -> Chain:
        """As it is credited: an attempt that failed or could not be graded takes no part."""
        grades = [grade_of(attempt) for attempt in self.attempts]
        return Chain(
            self.task,
            tuple(grade.reward for grade in grades),
            self.verdicts,
            tuple(grade.correct for grade in grades),
        )

    def outcome(self, attempts: int, *, every_row: bool, critic: bool) -> Chain:
        """As it is counted: an attempt is solved or not, as everywhere in a report.

        A missing attempt is not solved where it failed; where ``every_row`` was to be refined, they all have.
        """
        correct = [is_solved(attempt) for attempt in self.attempts]
        if every_row or self.failed:
            correct += [False] * (attempts - len(correct))
        said = [*self.verdicts, *[None] * attempts][: len(correct) - 1] if critic else []
        return Chain(self.task, tuple(float(good) for good in correct), tuple(said), tuple(correct))


def grade_of(episode: Episode) -> Grade:
    """The judge's word: no reward where the episode failed or could not be graded."""
    verdict = episode.verdict
    if episode.error is not None or verdict is None or verdict.is_success is None:
        return Grade(None, None)
    return Grade(verdict.raw_reward, verdict.is_success)


def attempt_text(episode: Episode) -> str:
    """What an attempt said and did, for others to read: its thoughts and messages, its tool calls with what came back,
    and its final answer where no message holds it.
    """
    made = list(episode.tool_calls)
    said: list[str] = []
    for turn in episode.turns:
        said.append(spoken(turn.message))
        for call in turn.message.get("tool_calls", ()):
            said.append(f"{call['name']}({json.dumps(call['arguments'], ensure_ascii=False)})")
            if made and made[0].name == call["name"]:  # others were made up, cut off, or are the framework's own
                said.append(made.pop(0).output.strip())
    final = str(episode.judge_input.get("final_answer") or "").strip()
    if not any(final in text for text in said):
        said.append(final)
    return "\n".join(text for text in said if text)
