"""What was sampled, in the words of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from astune.trace import StopReason, Turn


def completion_text(renderer: Any, turn: Turn) -> str:
    """All that was sampled, as text without special tokens: what plain decoding with transformers gives."""
    return str(renderer.tokenizer.decode(turn.completion_ids, skip_special_tokens=True))


def stop_reason_of(turns: Sequence[Turn]) -> str:
    """Inspect's name for why the model stopped: ``max_tokens`` if any of the turns was cut."""
    return "max_tokens" if any(turn.stop_reason is StopReason.LENGTH for turn in turns) else "stop"
