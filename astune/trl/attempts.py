"""The first attempts of a batch, as TRL's trainer scored them: what the refine stage starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from astune.refine.prompts import Message

#: Columns of a dataset under which TRL's own reward functions and common datasets keep the reference answer.
SOLUTION_COLUMNS = ("solution", "answer", "ground_truth", "reference")


@dataclass(frozen=True, slots=True)
class FirstAttempts:
    """What reached the reward functions. Lists have one entry a row of this process, B in all.

    ``prompts`` are conversations, or plain texts as the dataset has them; images are within them.
    ``rewards`` is (processes x B, functions), NaN where a function had nothing to say.
    """

    inputs: list[dict[str, Any]]
    prompts: list[Any]
    completions: list[Any]
    completion_ids: list[list[int]]
    rewards: Tensor

    @property
    def texts(self) -> list[str]:
        """The completions as text."""
        return [completion_text(completion) for completion in self.completions]

    def conversation(self, row: int) -> list[Message]:
        """The prompt as messages."""
        prompt = self.prompts[row]
        return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)

    def solutions(self, column: str | None) -> list[Any]:
        """The reference answers, for the log; None for each row where the dataset has none.

        Args:
            column: the dataset's column; None takes the first of :data:`SOLUTION_COLUMNS` that is there.
        """
        names = SOLUTION_COLUMNS if column is None else (column,)
        return [next((example[name] for name in names if name in example), None) for example in self.inputs]


def completion_text(completion: Any) -> str:
    """The text of a completion: of its last assistant message where it is a conversation."""
    if isinstance(completion, str):
        return completion
    for message in reversed(completion):
        if message["role"] == "assistant":
            return content_text(message.get("content"))
    return ""


def content_text(content: Any) -> str:
    """The text parts of a message's content."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content if part.get("type") == "text")


def images_of(messages: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The images of a conversation, in order."""
    return [
        part["image"]
        for message in messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
        if part.get("type") == "image" and "image" in part
    ]
