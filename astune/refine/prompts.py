"""The prompts of the critique and refine sub-agents: text files, which a folder of one's own may override.

The refine prompts are neutral: that one was issued must not tell the policy that its answer was wrong, or it
learns to change correct answers (docs/SELF_REFINE_ARCHITECTURE.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from astune.errors import ConfigError

Message = dict[str, Any]

_BUNDLED = Path(__file__).parent / "prompts"
_PLACEHOLDER = re.compile(r"\{(question|answer|critique)\}")
#: What a user prompt has to name, or the sub-agent would not see it.
_NEEDED = {
    "critique_user": ("question", "answer"),
    "refine_user": ("question", "answer", "critique"),
    "refine_user_without_critique": ("question", "answer"),
}


@dataclass(frozen=True, slots=True)
class Prompts:
    """The five texts. User prompts hold ``{question}``, ``{answer}`` and, with a critique, ``{critique}``."""

    critique_system: str
    critique_user: str
    refine_system: str
    refine_user: str
    refine_user_without_critique: str

    @classmethod
    def load(cls, folder: str | Path | None = None) -> Prompts:
        """The bundled prompts; each file that ``folder`` holds (``refine_system.txt``, say) takes the place of one.

        Raises:
            ConfigError: the folder does not exist, holds another text file, or a prompt lacks a placeholder.
        """
        return cls(**(_read(_BUNDLED) | (_read(_own(Path(folder))) if folder is not None else {})))

    def critique(self, prompt: Sequence[Mapping[str, Any]], answer: str) -> list[Message]:
        """Messages that ask for a critique of ``answer`` to the conversation ``prompt``. Images are passed on."""
        return _messages(self.critique_system, self.critique_user, prompt, answer=answer)

    def refine(self, prompt: Sequence[Mapping[str, Any]], answer: str, critique: str | None = None) -> list[Message]:
        """Messages that ask for an improved answer, with the critique where there is one. Images are passed on."""
        if critique is None:
            return _messages(self.refine_system, self.refine_user_without_critique, prompt, answer=answer)
        return _messages(self.refine_system, self.refine_user, prompt, answer=answer, critique=critique)


@cache
def bundled_prompts() -> Prompts:
    """The prompts as shipped."""
    return Prompts.load()


def question_text(prompt: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last user message of a conversation: what was asked."""
    content = _last_user(prompt)["content"]
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) for part in content if part.get("type") == "text")


def without_controls(messages: Sequence[Mapping[str, Any]], controls: Sequence[str]) -> list[Message]:
    """The messages with each control token that their texts spell replaced by a space.

    Attempts and critiques are quoted in prompts. One that spells the end of a turn would speak for somebody else.

    Args:
        messages: a conversation.
        controls: what the tokenizer reads as control tokens, see :func:`control_tokens`.
    """
    return [{**message, "content": _without(message.get("content"), controls)} for message in messages]


def control_tokens(tokenizer: Any) -> list[str]:
    """The special tokens of a ``transformers`` tokenizer, as text; the longest first."""
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return sorted(special, key=lambda token: (-len(token), token))


def _without(content: Any, controls: Sequence[str]) -> Any:
    if isinstance(content, str):
        for control in controls:
            content = content.replace(control, " ")
        return content
    return [{**part, "text": _without(part["text"], controls)} if "text" in part else part for part in content or []]


def _messages(system: str, user: str, prompt: Sequence[Mapping[str, Any]], **texts: str) -> list[Message]:
    given = {"question": question_text(prompt), **texts}
    # One pass: braces within an answer are not placeholders.
    text = _PLACEHOLDER.sub(lambda match: given[match[1]], user)
    others = _parts_other_than_text(prompt)
    content: Any = [*others, {"type": "text", "text": text}] if others else text
    return [{"role": "system", "content": system}, {"role": "user", "content": content}]


def _last_user(prompt: Sequence[Mapping[str, Any]]) -> Message:
    for message in reversed(prompt):
        if message["role"] == "user":
            return dict(message)
    raise ValueError("a prompt without a user message has no question to refine an answer to")


def _parts_other_than_text(prompt: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    content = _last_user(prompt)["content"]
    return [] if isinstance(content, str) else [dict(part) for part in content if part.get("type") != "text"]


def _own(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigError(f"prompts folder {folder} does not exist")
    return folder


def _read(folder: Path) -> dict[str, str]:
    known = [field.name for field in fields(Prompts)]
    texts = {}
    for path in sorted(folder.glob("*.txt")):
        if path.stem not in known:
            raise ConfigError(f"{path} is no prompt: use {', '.join(f'{name}.txt' for name in known)}")
        text = path.read_text(encoding="utf-8").removesuffix("\n")
        missing = [name for name in _NEEDED.get(path.stem, ()) if f"{{{name}}}" not in text]
        if missing:
            raise ConfigError(f"{path} has no {', '.join(f'{{{name}}}' for name in missing)}")
        texts[path.stem] = text
    return texts
