"""What a workflow is given, what it is, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from astune.task_reader.types import Task


@dataclass(frozen=True, slots=True)
class WorkflowTask:
    """One task as one episode sees it."""

    task: Task
    sample_index: int = 0


@dataclass(slots=True)
class WorkflowOutput:
    """What a workflow returns. ``reward`` overrides the judge where a workflow grades itself."""

    reward: float | None = None
    is_success: bool | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


class Workflow:
    """What an agent does with one task. Subclasses write one of the two coroutines.

    ``agentscope_execute`` is for agents built on AgentScope, ``execute`` for those that use no
    framework; the runner calls the first where a subclass defines it.
    """

    async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
        """Runs the agent on one task through the managed model ``astune_proxy``."""
        raise NotImplementedError(f"{type(self).__name__} defines neither execute nor agentscope_execute")
