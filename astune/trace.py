"""What happened in a rollout, as token ids recorded once: Turn, Trajectory, Episode, Group.

Tokens are the truth. Masks, log-probabilities, messages, metrics and views are derived from the
records here, and nothing that was sampled is ever tokenised again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class StopReason(StrEnum):
    """Why a completion ended."""

    EOS = "eos"
    LENGTH = "length"
    TOOL_CALL = "tool_call"
    ABORTED = "aborted"


class SplitReason(StrEnum):
    """Why a turn could not extend an earlier trajectory and started a new one."""

    TEMPLATE = "template"  # the chat template renders history differently from how it was sampled
    RETOKENISATION = "retokenisation"  # same text, other ids
    EDITED_HISTORY = "edited_history"  # the agent changed, dropped or reordered earlier messages
    NEW_CONVERSATION = "new_conversation"  # nothing that was sampled earlier is part of the prompt


@dataclass(slots=True)
class Turn:
    """One model call.

    ``logprobs`` are those of the sampled tokens under the sampling distribution (after temperature
    and truncation), one a token of ``completion_ids``.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    logprobs: list[float]
    stop_reason: StopReason
    agent: str = "agent"
    #: The assistant message as the agent was given it: content text and tool calls (with their parse status).
    message: dict[str, Any] = field(default_factory=dict)
    #: Tokens of ``prompt_ids`` whose keys and values the engine reused instead of computing.
    cached_tokens: int = 0
    #: Why the prompt extends no earlier turn; None where it does, and at the first turn of an episode.
    split_reason: SplitReason | None = None
    #: Place among the episode's model calls, from 0, and how many tool executions had ended when the call was made.
    number: int = 0
    tools_before: int = 0


@dataclass(slots=True)
class Trajectory:
    """A chain of turns in which each prompt extends the previous prompt + completion, token by token.

    ``loss_mask`` is 1 at sampled ids; ``logprobs`` is 0.0 where the mask is 0. All three lists have
    one length.
    """

    ids: list[int]
    loss_mask: list[int]
    logprobs: list[float]
    turns: list[Turn]

    @property
    def first_prompt_length(self) -> int:
        """Length in tokens of the first turn's prompt (never trained)."""
        return len(self.turns[0].prompt_ids)


@dataclass(slots=True)
class ToolCall:
    """One tool execution as the sandbox saw it, in order of the episode."""

    name: str
    arguments: dict[str, Any]
    output: str
    returncode: int
    stop_reason: str
    seconds: float


@dataclass(slots=True)
class Verdict:
    """What the judge said: ``is_success`` is None where the answer could not be graded."""

    raw_reward: float
    is_success: bool | None
    components: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Episode:
    """One run of one workflow on one task."""

    task_id: str
    sample_index: int
    trajectories: list[Trajectory] = field(default_factory=list)
    judge_input: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    tool_calls: list[ToolCall] = field(default_factory=list)
    split_reasons: Counter[str] = field(default_factory=Counter)
    #: ``"finished"`` or the ``kind`` of the EpisodeError that ended it.
    stop_reason: str = "finished"
    #: What went wrong, in one line; None for an episode that ran to its end. ``traceback`` is kept to a bounded length.
    error: str | None = None
    traceback: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    #: Bad tool habits that the episode shows (``no_print``, ``premature_answer``, ``malformed_call``).
    habits: dict[str, bool] = field(default_factory=dict)
    #: What the workflow wanted to be kept (``WorkflowOutput.metadata``).
    metadata: dict[str, Any] = field(default_factory=dict)
    #: ``answer``, or what it is of a refinement: ``critique`` or ``refine``. It belongs to the answer of its task and
    #: sample, whose rounds of refinement are counted from 1.
    role: str = "answer"
    round: int = 0

    @property
    def trainable(self) -> bool:
        """Whether the episode may train the policy: it ran to its end and was given a reward."""
        return self.error is None and self.verdict is not None

    @property
    def turns(self) -> list[Turn]:
        """All model calls of the episode, trajectory by trajectory."""
        return [turn for trajectory in self.trajectories for turn in trajectory.turns]

    def in_order(self) -> list[Turn | ToolCall]:
        """Model calls and tool executions in the order in which they happened, across trajectories."""
        happened: list[Turn | ToolCall] = []
        shown = 0
        for turn in sorted(self.turns, key=lambda turn: turn.number):
            happened += [*self.tool_calls[shown : turn.tools_before], turn]
            shown = max(shown, turn.tools_before)
        return happened + self.tool_calls[shown:]


@dataclass(slots=True)
class Group:
    """The episodes of one task in one training step."""

    task_id: str
    episodes: list[Episode]


def build_trajectories(turns: Sequence[Turn]) -> tuple[list[Trajectory], Counter[str]]:
    """Merges turns into trajectories by exact prefix: each turn ends up in exactly one of them.

    A turn joins the longest trajectory whose ids its prompt extends (the latest of equals); otherwise
    it starts a new one and its reason is counted, as :attr:`Turn.split_reason` states it or, where
    nobody stated one, as ``edited_history``. The episode's first turn is no split.
    """
    trajectories: list[Trajectory] = []
    reasons: Counter[str] = Counter()
    for turn in turns:
        parent = _longest_prefix(trajectories, turn.prompt_ids)
        if parent is None:
            if trajectories:
                reasons[str(turn.split_reason or SplitReason.EDITED_HISTORY)] += 1
            parent = Trajectory(ids=[], loss_mask=[], logprobs=[], turns=[])
            trajectories.append(parent)
        _append(parent, turn)
    return trajectories, reasons


def _longest_prefix(trajectories: Sequence[Trajectory], prompt_ids: list[int]) -> Trajectory | None:
    best: Trajectory | None = None
    for trajectory in trajectories:
        length = len(trajectory.ids)
        if (best is None or length >= len(best.ids)) and prompt_ids[:length] == trajectory.ids:
            best = trajectory
    return best


def _append(trajectory: Trajectory, turn: Turn) -> None:
    given, sampled = len(turn.prompt_ids) - len(trajectory.ids), len(turn.completion_ids)
    trajectory.ids = turn.prompt_ids + turn.completion_ids
    trajectory.loss_mask += [0] * given + [1] * sampled
    trajectory.logprobs += [0.0] * given + turn.logprobs
    trajectory.turns.append(turn)
