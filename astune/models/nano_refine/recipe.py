"""The data recipe of the refining policy: refinement, drills in arithmetic, and the episodes of ``nano``."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from astune.models.nano.habits import draw_habit
from astune.models.nano.recipe import ChatText, Segment, tool_episode
from astune.models.nano_refine.refinement import PlainConversation, draw_drill, draw_refinement
from astune.task_reader.nano_gsm import generate

#: Shares of the conversations: with AgentScope's tools, with the plain tool, drills in arithmetic; others lack tools.
AGENTSCOPE_SHARE, PLAIN_SHARE, DRILL_SHARE = 0.27, 0.18, 0.2


def plain_conversation(chat: ChatText, drawn: PlainConversation) -> list[Segment]:
    """A conversation without tools. Earlier turns of the policy that the prompt quotes are learned as well."""
    text = chat.opening(drawn.messages, None)
    segments = []
    for quoted in drawn.quoted:
        before, _, text = text.partition(quoted)
        segments += [Segment(before, False), Segment(quoted, True)]
    return [*segments, Segment(text, False), Segment(drawn.reply + "<|im_end|>", True)]


def drill_conversation(chat: ChatText, rng: Random) -> list[Segment]:
    """Exercises in arithmetic; only their results are learned."""
    segments = [Segment(chat.opening([{"role": "user", "content": "Calculate."}], None), False)]
    for asked, result in draw_drill(rng):
        segments += [Segment(asked, False), Segment(result, True)]
    return segments


def conversations(chat: ChatText, n: int, seed: int) -> Iterator[list[Segment]]:
    """``n`` conversations of the recipe, on training problems; the episodes' problems are distinct."""
    rng = Random(f"recipe:{seed}")
    for problem in generate(n, seed, "train"):
        kind = rng.random()
        if kind < AGENTSCOPE_SHARE + PLAIN_SHARE:
            habit = draw_habit(problem.family, rng)
            yield tool_episode(chat, problem, habit, kind < AGENTSCOPE_SHARE, rng)
        elif kind < AGENTSCOPE_SHARE + PLAIN_SHARE + DRILL_SHARE:
            yield drill_conversation(chat, rng)
        else:
            yield plain_conversation(chat, draw_refinement(rng))
