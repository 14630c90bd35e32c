"""A trajectory as tiles: one a token, in the order in which the model saw and produced them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from astune.trace import Trajectory

#: Tokens with which chat templates open a message.
_MESSAGE_STARTS = {"<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|start|>"}
_SPECIAL = re.compile(r"<\|[^<>|]+\|>|</?(?:tool_call|tool_response|think|tools|start_of_turn|end_of_turn|bos|eos|s)>")
_ROLE = re.compile(r"\s*(system|user|assistant|tool|model|developer)\b")
#: Lower ends of the probability classes of a sampled token, from "as expected" (0) to "a surprise" (4).
SHADES = (0.95, 0.75, 0.5, 0.2, 0.0)


@dataclass(frozen=True, slots=True)
class Tile:
    """One token. ``logprob`` is None where the token was not sampled; ``breaks`` ends the line after it."""

    position: int
    id: int
    text: str
    special: bool
    breaks: bool
    logprob: float | None

    @property
    def trained(self) -> bool:
        """Whether the token was sampled, so that the loss sees it."""
        return self.logprob is not None

    @property
    def shade(self) -> int:
        """Index into :data:`SHADES` of a sampled token; 0 where it was not sampled."""
        if self.logprob is None:
            return 0
        probability = math.exp(min(0.0, self.logprob))
        return next(index for index, low in enumerate(SHADES) if probability >= low)


@dataclass(frozen=True, slots=True)
class Segment:
    """The tiles of one message. ``role`` is ``system``, ``user``, ``assistant``, ``tool_response`` or ``text``."""

    role: str
    tiles: list[Tile]

    @property
    def trained(self) -> int:
        """How many of the tokens were sampled."""
        return sum(tile.trained for tile in self.tiles)


def token_decoder(tokenizer: Any) -> Callable[[int], str]:
    """Text of one id, special tokens included, from a transformers tokenizer; each id is decoded once."""

    @cache
    def decode(id_: int) -> str:
        return str(tokenizer.decode([id_], skip_special_tokens=False, clean_up_tokenization_spaces=False))

    return decode


def visible(text: str) -> str:
    """``text`` with what cannot be seen made visible: newlines, tabs, blanks on their own, control characters."""
    if text and not text.strip(" "):
        return "␣" * len(text)
    return "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    if character == "\n":
        return "⏎"
    if character == "\t":
        return "⇥"
    # Also neutralises bidirectional overrides, which could make text read as what it is not.
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def segments(trajectory: Trajectory, decode: Callable[[int], str]) -> list[Segment]:
    """Cuts ``trajectory`` at message boundaries; every token is in exactly one segment.

    ``decode`` gives the text of one id, special tokens included. Templates whose message tokens are
    unknown here are cut where sampling starts and ends.
    """
    texts = [decode(id_) for id_ in trajectory.ids]
    tiles = list(_tiles(trajectory, texts))
    starts = [index for index, text in enumerate(texts) if text in _MESSAGE_STARTS]
    if not starts:
        mask = trajectory.loss_mask
        starts = [index for index in range(1, len(mask)) if mask[index] != mask[index - 1]]
    bounds = sorted({0, *starts, len(tiles)})
    return [Segment(_role(texts[a:b], tiles[a:b]), tiles[a:b]) for a, b in pairwise(bounds)]


def _tiles(trajectory: Trajectory, texts: Sequence[str]) -> Iterator[Tile]:
    columns = zip(trajectory.ids, texts, trajectory.loss_mask, trajectory.logprobs, strict=True)
    for position, (id_, text, mask, logprob) in enumerate(columns):
        yield Tile(
            position=position,
            id=id_,
            text=visible(text),
            special=_SPECIAL.fullmatch(text.strip()) is not None,
            breaks="\n" in text,
            logprob=logprob if mask else None,
        )


def _role(texts: Sequence[str], tiles: Sequence[Tile]) -> str:
    if texts and texts[0] in _MESSAGE_STARTS:
        head = "".join(texts[1:12])
        match = _ROLE.match(head)
        if match is None:
            return "text"
        role, rest = match[1], head[match.end() :].lstrip()
        if role == "tool" or (role == "user" and rest.startswith("<tool_response>")):
            return "tool_response"
        return {"model": "assistant", "developer": "system"}.get(role, role)
    return "assistant" if any(tile.trained for tile in tiles) else "text"
