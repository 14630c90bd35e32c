"""Reads a model's answer: a JSON hypothesis and a complete script. What cannot be used says why."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from typing import Any

_BLOCK = re.compile(r"```[ \t]*([A-Za-z0-9_+-]*)[ \t]*\r?\n(.*?)```", re.DOTALL)
_MAX_CODE, _MAX_WORDS = 60_000, 2_000


class UnusableAnswer(Exception):
    """An answer that is empty, cut off, or not in the form that was asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model proposes. ``seconds`` is None where it named none."""

    hypothesis: str
    reason: str
    code: str
    seconds: float | None = None


def read_answer(text: str) -> Answer:
    """Takes the last JSON object with a hypothesis and the last Python block.

    Raises:
        UnusableAnswer: says what is missing.
    """
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    if not text.strip():
        raise UnusableAnswer("it is empty")
    blocks = [(kind.lower(), body) for kind, body in _BLOCK.findall(text)]
    code = _code(blocks, text)
    said = _hypothesis(blocks, text)
    seconds = said.get("seconds")
    usable = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < 1e9
    return Answer(
        hypothesis=str(said["hypothesis"]).strip()[:_MAX_WORDS],
        reason=str(said.get("reason") or "").strip()[:_MAX_WORDS],
        code=code,
        seconds=float(seconds) if usable and seconds is not None else None,
    )


def _code(blocks: list[tuple[str, str]], text: str) -> str:
    scripts = [body for kind, body in blocks if kind in ("python", "py", "python3")]
    if not scripts:
        cut = "```python" in text
        raise UnusableAnswer("its python block does not end: it was cut off" if cut else "there is no python block")
    code = scripts[-1].strip() + "\n"
    if len(code) > _MAX_CODE:
        raise UnusableAnswer(f"train.py has {len(code)} characters; {_MAX_CODE} is the most")
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnusableAnswer(f"train.py is not Python: {error}") from error
    return code


def _hypothesis(blocks: list[tuple[str, str]], text: str) -> dict[str, Any]:
    outside = _BLOCK.sub("", text)
    candidates = [body for kind, body in blocks if kind in ("json", "")]
    candidates += [outside[outside.find("{") : outside.rfind("}") + 1]] if "{" in outside else []
    problem = "there is no json block"
    for body in reversed(candidates):
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            problem = f"its json block is not JSON: {error}"
            continue
        if isinstance(found, dict) and str(found.get("hypothesis") or "").strip():
            return found
        problem = 'its json block has no "hypothesis"'
    raise UnusableAnswer(problem)
