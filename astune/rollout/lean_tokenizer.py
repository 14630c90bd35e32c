"""A tokenizer for renderers: the same ids, without what rendering a prompt does not need."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

_SHORT_CHARACTERS = 48


class LeanTokenizer:
    """Encodes and decodes as ``tokenizer`` does; everything else is passed on to it.

    Rendering one turn encodes a dozen fragments of scaffold (``"assistant\\n"``): short texts are encoded once.
    It is not callable, so that a renderer does not ask for character offsets, which nobody reads here. And it
    names no unknown token: byte-level tokenizers need none, but Qwen's class names ``<|endoftext|>``, and the
    renderers would then take that for a token that is missing.
    """

    __call__ = None
    unk_token_id = None

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._encode_short = lru_cache(maxsize=4096)(self._encode)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Returns the ids of ``text``; special tokens are never added around it."""
        assert not add_special_tokens
        return list(self._encode_short(text) if len(text) <= _SHORT_CHARACTERS else self._encode(text))

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))
