"""Which prefixes are computed once: a trie of two levels, roots and stems.

A *stem* is a prompt without its last token, which every row feeds itself, so that all rows of a group start
alike. A *root* is what different stems begin with. Deeper sharing, a session's own earlier turns, is kept
with the session.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from astune.rollout.kv_cache import KV

#: Shorter common beginnings are not worth a level of their own.
MIN_ROOT = 16

Tokens = tuple[int, ...]


@dataclass(eq=False, slots=True)
class Root:
    """A common beginning; ``kv`` is filled in when it is computed."""

    tokens: Tokens
    kv: KV | None = None


@dataclass(eq=False, slots=True)
class Stem:
    """A whole prompt less its last token. ``kv`` holds what comes after the root."""

    tokens: Tokens
    root: Root | None = None
    kv: KV | None = None
    users: int = 0  # running rows and parked sessions

    @property
    def rest(self) -> Tokens:
        """The tokens after the root."""
        return self.tokens[len(self.root.tokens) if self.root else 0 :]


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    end = min(len(a), len(b))
    if a[:end] == b[:end]:
        return end
    low, high = 0, end  # invariant: a[:low] == b[:low], a[:high] != b[:high]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle)
    return low


@dataclass(slots=True)
class PrefixCache:
    """Roots and stems of the current weights.

    Attributes:
        keep_tokens: unused stems are forgotten, oldest first, when all stems hold more than this.
    """

    keep_tokens: int
    roots: list[Root] = field(default_factory=list)
    _stems: dict[Tokens, Stem] = field(default_factory=dict)

    def get(self, tokens: Tokens) -> Stem | None:
        """The stem of exactly these tokens, now the most recently used."""
        stem = self._stems.pop(tokens, None)
        if stem is not None:
            self._stems[tokens] = stem
        return stem

    def add(self, wanted: Iterable[Tokens]) -> list[Stem]:
        """Makes stems for token sequences that have none, on roots that exist or are found now.

        Returns:
            The new stems in order of first mention. Their ``kv``, and that of new roots, is still to be
            computed.
        """
        stems = [Stem(tokens, self._longest_root(tokens)) for tokens in dict.fromkeys(wanted)]
        self._find_roots([stem for stem in stems if stem.root is None])
        self._stems.update((stem.tokens, stem) for stem in stems)
        return stems

    def trim(self) -> None:
        """Forgets unused stems over the limit, and roots that no stem stands on."""
        total = sum(len(stem.rest) for stem in self._stems.values())
        for stem in [s for s in self._stems.values() if not s.users]:
            if total <= self.keep_tokens:
                return
            total -= len(stem.rest)
            del self._stems[stem.tokens]
        used = {id(stem.root) for stem in self._stems.values()}
        self.roots = [root for root in self.roots if id(root) in used]

    def clear(self) -> None:
        """Forgets everything."""
        self.roots.clear()
        self._stems.clear()

    def _longest_root(self, tokens: Tokens) -> Root | None:
        fitting = [r for r in self.roots if len(r.tokens) < len(tokens) and tokens[: len(r.tokens)] == r.tokens]
        return max(fitting, key=lambda root: len(root.tokens), default=None)

    def _find_roots(self, stems: list[Stem]) -> None:
        """Gives stems that begin alike a new root: their longest common prefix, older stems included."""
        families: dict[Tokens, list[Stem]] = defaultdict(list)
        for stem in stems:
            families[stem.tokens[:MIN_ROOT]].append(stem)
        for head, family in families.items():
            relatives = family + [s for s in self._stems.values() if s.tokens[:MIN_ROOT] == head]
            first = min(relatives, key=lambda stem: len(stem.tokens)).tokens
            shared = min(min(common_length(first, stem.tokens) for stem in relatives), len(first) - 1)
            if len(relatives) < 2 or shared < MIN_ROOT:
                continue
            root = Root(first[:shared])
            self.roots.append(root)
            for stem in family:
                stem.root = root
