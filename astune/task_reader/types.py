"""A task: one problem, with what the judge needs to grade an answer to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Task:
    """One problem.

    ``init_messages`` is what the workflow starts from; its last user message holds ``main_query``.
    ``answer`` is the reference answer alone (``"18"``), already extracted from the record's solution text.
    """

    task_id: str
    main_query: str
    answer: str | None = None
    init_messages: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
