"""What a judge is: a dictionary of evidence in, a reward and a verdict out."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

JudgeResult = tuple[float, bool | None] | tuple[float, bool | None, dict[str, float]]


class Judge(Protocol):
    """Grades one episode.

    ``judge_input_dictionary`` holds ``workflow_task``, ``grouped_steps`` (every :class:`~astune.trace.Turn`),
    ``tool_calls`` (every :class:`~astune.trace.ToolCall`), ``env`` where there is one, and whatever the
    workflow registered (``final_answer``). Returns ``(raw_reward, is_success)``, with named components
    for the log as an optional third; ``is_success`` is None for what cannot be graded. May be a coroutine.
    """

    def compute_reward(self, judge_input_dictionary: dict[str, Any]) -> JudgeResult | Awaitable[JudgeResult]:
        """Returns raw reward, success, and optionally the components that add up to the reward."""
        ...
