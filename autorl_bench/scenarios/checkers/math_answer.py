"""The checker of math answers: the judge's own comparison."""

from __future__ import annotations

import asyncio

from astune.task_judge.math_answer_as_judge import answers_match
from autorl_bench.types import Item


class MathAnswer:
    r"""Whether the answer that a completion commits to (``\boxed{}``, ``#### 18``, ...) is the target's value."""

    async def grade(self, item: Item, completion: str) -> bool | None:
        """None where the answer cannot be read. Expressions are compared inside the sandbox."""
        if not completion.strip():
            return False
        return await asyncio.to_thread(answers_match, completion, item.target)
