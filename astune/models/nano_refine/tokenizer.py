"""The tokenizer of the refining policy: that of ``nano`` with more of the refinement's wording in one token each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields

from transformers import Qwen2Tokenizer

from astune.models.nano import tokenizer as nano
from astune.models.nano_refine.refinement import WORDINGS
from astune.refine.prompts import bundled_prompts


def _pieces(prompt: str) -> list[str]:
    """A prompt's fixed wording, cut at its placeholders and markup."""
    return [piece for piece in re.split(r"</?think>|\{[a-z]+\}", prompt) if piece.strip()]


def phrases() -> list[str]:
    """The fixed wordings that are one token each."""
    prompts = bundled_prompts()
    pieces = [piece for field in fields(prompts) for piece in _pieces(getattr(prompts, field.name))]
    return [*nano.phrases([*pieces, *WORDINGS]), "<answer>The answer is \\boxed{", "}.</answer>"]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Qwen2Tokenizer:
    """Trains the tokenizer on rendered conversations; ``vocab_size`` counts everything."""
    return nano.train_tokenizer(texts, vocab_size, phrases())
