"""Finding the wording of many problems in a stream of text: whole problems, and runs of 13 words of them.

A run of tokens is compared by a polynomial hash modulo 2^64 of random token numbers, so that a megabyte of text costs
a few array operations. Tokens are words and numbers, without case or punctuation; what surrounds every problem
alike (instructions) is cut off first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from autorl_bench.types import Item

#: Length of the runs, after GPT-3's analysis of contamination (Brown et al., 2020, appendix C).
NGRAM = 13
#: Problems of fewer tokens are left out: they would be found anywhere.
SHORTEST = 6

Ids = npt.NDArray[np.uint64]
_TOKEN = re.compile(rb"[0-9a-z\x80-\xff]+")
_UNKNOWN = 0x9E37_79B9_7F4A_7C15
_BASE = 0xD134_2543_DE82_EF95  # odd, so that it has an inverse
_INVERSE = pow(_BASE, -1, 2**64)


def tokens_of(text: bytes) -> list[bytes]:
    """Words and numbers in lower case; bytes beyond ASCII count as letters."""
    return _TOKEN.findall(text.lower())


def question_of(item: Item) -> str:
    """What an item asks: the text of its last message by the user."""
    for message in reversed(item.messages):
        if message.get("role") == "user":
            content = message.get("content")
            return content if isinstance(content, str) else " ".join(_texts(content))
    return ""


def _texts(content: Any) -> Iterable[str]:
    return (part["text"] for part in content or () if isinstance(part, dict) and isinstance(part.get("text"), str))


class Needles:
    """The problems to look for; :meth:`search` is called with the tokens of the text, piece by piece.

    Args:
        items: what to look for.
        public: problems that the agent was given: their runs of words prove nothing, nor do problems among them.
    """

    def __init__(self, items: Sequence[Item], public: Sequence[Item] = ()):
        texts = [tokens_of(question_of(item).encode()) for item in (*items, *public)]
        texts = _without_frame(texts)
        own, given = texts[: len(items)], texts[len(items) :]
        known = {tuple(text) for text in given}
        kept = [n for n, text in enumerate(own) if len(text) >= SHORTEST and tuple(text) not in known]
        self.ids = [items[n].id for n in kept]
        self._numbers = {token: _number(token) for n in kept for token in own[n]}
        rows = [self.numbers(own[n]) for n in kept]
        self.longest = max(map(len, rows), default=0)
        self._anchor = min(map(len, rows), default=0)
        self._anchors = _sorted(_windows(row[: self._anchor], self._anchor) for row in rows)
        self._whole = _by_length(rows)
        public_runs = _sorted(_windows(self.numbers(text), NGRAM) for text in given)
        runs = [np.setdiff1d(_windows(row, NGRAM), public_runs) for row in rows]
        self._runs = _sorted(runs)
        self._runs_of = [np.searchsorted(self._runs, run) for run in runs]
        self._run_found = np.zeros(len(self._runs), dtype=bool)
        self._whole_found = np.zeros(len(rows), dtype=bool)

    def numbers(self, tokens: Iterable[bytes]) -> Ids:
        """Tokens as random numbers, the same for the same token; all tokens of no problem share one."""
        get = self._numbers.get
        return np.fromiter((get(token, _UNKNOWN) for token in tokens), dtype=np.uint64)

    def search(self, text: Ids) -> bool:
        """Marks what occurs in ``text``; returns whether a whole problem was found that had not been before."""
        before = int(self._whole_found.sum())
        self._run_found[_hits(_windows(text, NGRAM), self._runs)[1]] = True
        starts, _ = _hits(_windows(text, self._anchor), self._anchors)
        if len(starts):
            sums, inverse = _prefix(text)
            for length, (hashes, owners) in self._whole.items():
                fitting = starts[starts + length <= len(text)]
                found = (sums[fitting + length] - sums[fitting]) * inverse[fitting]
                for which in np.unique(_hits(found, hashes)[1]):
                    self._whole_found[owners[which]] = True
        return int(self._whole_found.sum()) > before

    def whole(self) -> list[str]:
        """Ids of the items whose whole wording was found."""
        return [item_id for item_id, found in zip(self.ids, self._whole_found, strict=True) if found]

    def covered(self) -> dict[str, float]:
        """Share of the runs of each item that were found, of those items that have runs which are not public."""
        pairs = zip(self.ids, self._runs_of, strict=True)
        return {item_id: float(self._run_found[runs].mean()) for item_id, runs in pairs if len(runs)}


def _without_frame(texts: list[list[bytes]]) -> list[list[bytes]]:
    """Cuts off the tokens that all texts begin and end with."""
    if len(set(map(tuple, texts))) < 2:
        return texts
    head = _shared_head(texts)
    tail = _shared_head([text[head:][::-1] for text in texts])
    return [text[head : len(text) - tail] for text in texts]


def _shared_head(texts: Sequence[list[bytes]]) -> int:
    """How many tokens all texts begin with; texts between the smallest and the largest share what these two do."""
    smallest, largest = min(texts), max(texts)
    pairs = enumerate(zip(smallest, largest, strict=False))
    return next((n for n, (left, right) in pairs if left != right), min(len(smallest), len(largest)))


def _number(token: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(token, digest_size=8).digest(), "little")


def _prefix(text: Ids) -> tuple[Ids, Ids]:
    """Sums of token * B^position up to each position (n + 1 of them), and B^-position; all modulo 2^64."""
    powers = np.full(len(text) + 1, _BASE, dtype=np.uint64)
    inverse = np.full(len(text) + 1, _INVERSE, dtype=np.uint64)
    powers[0] = inverse[0] = 1
    powers, inverse = np.cumprod(powers), np.cumprod(inverse)
    sums = np.zeros(len(text) + 1, dtype=np.uint64)
    np.cumsum(text * powers[:-1], out=sums[1:])
    return sums, inverse


def _windows(text: Ids, length: int) -> Ids:
    """Hash of every run of ``length`` tokens, in order; none where the text is shorter."""
    if length == 0 or len(text) < length:
        return np.empty(0, dtype=np.uint64)
    sums, inverse = _prefix(text)
    return (sums[length:] - sums[:-length]) * inverse[: len(text) - length + 1]


def _sorted(parts: Iterable[Ids]) -> Ids:
    return np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *parts]))


def _by_length(rows: Sequence[Ids]) -> dict[int, tuple[Ids, list[list[int]]]]:
    """For each length the sorted hashes of whole problems, and for each hash the problems that have it."""
    owners: dict[int, dict[int, list[int]]] = {}
    for n, row in enumerate(rows):
        owners.setdefault(len(row), {}).setdefault(int(_windows(row, len(row))[0]), []).append(n)
    return {
        length: (np.array(sorted(found), dtype=np.uint64), [found[key] for key in sorted(found)])
        for length, found in owners.items()
    }


def _hits(values: Ids, wanted: Ids) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where ``values`` holds one of the sorted ``wanted``, and which one it is."""
    if not len(wanted) or not len(values):
        nothing = np.empty(0, dtype=np.intp)
        return nothing, nothing
    which = np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)
    at = np.flatnonzero(wanted[which] == values)
    return at, which[at]
