"""Reflexion: lessons from failed attempts are remembered, and recalled for the next one."""

from __future__ import annotations

from collections.abc import Sequence

from astune.refine.loop_state import Metered, Score
from astune.refine.memory import EpisodicMemory, Lesson
from astune.refine.prompts import Message, question_text
from astune.refine.select import keep_last
from astune.refine.stop import Verdict
from astune.refine.strategies.common import Setting, Strategy, TextState
from astune.refine.strategies.self_refine import pass_feedback_on
from astune.refine.verdict import feedback_of

_LESSONS = "Lessons from earlier attempts:"


def reflexion(setting: Setting) -> Strategy:
    """Attempt, be criticised, remember the critique as a lesson, try again with what memory recalls.

    After Shinn et al., 2023; the critic's feedback is the verbal lesson. A question that resembles one in a
    persistent memory starts with its lessons. Ends with an attempt that the critic calls correct.
    """
    memory = setting.memory if setting.memory is not None else EpisodicMemory()
    question = question_text(setting.prompt)

    async def generate(state: TextState) -> list[Metered[str]]:
        lessons = memory.recall(question, setting.recalled)
        if state.last is not None:
            return await setting.refine(state.last.candidate, _told(lessons), len(state.rounds))
        prompt = _with_lessons(setting.prompt, lessons) if lessons else list(setting.prompt)
        reply = await setting.model.reply(prompt, role="answer", draw=1)
        return [Metered(reply.text, reply.usage)]

    async def evaluate(state: TextState, candidates: list[str]) -> list[Score]:
        scores = await setting.scored_by(setting.judge or setting.model, state, candidates)
        for candidate, score in zip(candidates, scores, strict=True):
            lesson = feedback_of(score.feedback or "")
            if lesson and not score.verdict:
                memory.add(question, candidate, lesson, score.value)
        return scores

    return Strategy(generate, evaluate, setting.limit | Verdict(), keep_last, pass_feedback_on)


def _told(lessons: Sequence[Lesson]) -> str | None:
    """Recalled lessons as one feedback, the most relevant last: where it is nearest to the answer."""
    return "\n".join(lesson.text for lesson in reversed(lessons)) or None


def _with_lessons(prompt: Sequence[Message], lessons: Sequence[Lesson]) -> list[Message]:
    told = "\n".join(f"- {lesson.text}" for lesson in reversed(lessons))
    note: Message = {"role": "system", "content": f"{_LESSONS}\n{told}"}
    if prompt[0]["role"] == "system" and isinstance(prompt[0]["content"], str):
        return [prompt[0] | {"content": f"{prompt[0]['content']}\n\n{note['content']}"}, *prompt[1:]]
    return [note, *prompt]
