"""Which prefixes are computed once: stems, on roots that grow out of one another.

A *stem* is a prompt without its last token, which every row feeds itself, so that all rows of a group start
alike. A *root* is what different stems begin with; a longer root begins with a shorter one and repeats its
keys and values, so that a row's context is one root and one stem however many beginnings are nested in it.
Critiques show it: all begin with the system prompt, those of one task with its question, too. Deeper
sharing, a session's own earlier turns, is kept with the session.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from astune.rollout.kv_cache import KV

#: Shorter common beginnings are not worth a level of their own.
MIN_ROOT = 16
#: Nor is a root on a root that saves fewer tokens: it costs a copy, and a slot of its own at every step.
MIN_SAVED = 64

Tokens = tuple[int, ...]


@dataclass(eq=False, slots=True)
class Root:
    """A common beginning; ``kv``, of all its tokens, is filled in when it is computed."""

    tokens: Tokens
    parent: Root | None = None
    kv: KV | None = None

    @property
    def rest(self) -> Tokens:
        """The tokens after the parent."""
        return self.tokens[len(self.parent.tokens) if self.parent else 0 :]


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
        families: dict[Root | None, list[Stem]] = defaultdict(list)
        for stem in stems:
            families[stem.root].append(stem)
        for root, family in families.items():
            start = root.tokens if root else ()
            older = [stem for stem in self._stems.values() if stem.tokens[: len(start)] == start]
            self._grow(root, family, older)
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
        used: set[int] = set()
        for root in {stem.root for stem in self._stems.values()}:
            while root is not None and id(root) not in used:
                used.add(id(root))
                root = root.parent
        self.roots = [root for root in self.roots if id(root) in used]

    def clear(self) -> None:
        """Forgets everything."""
        self.roots.clear()
        self._stems.clear()

    def _longest_root(self, tokens: Tokens) -> Root | None:
        fitting = [r for r in self.roots if len(r.tokens) < len(tokens) and tokens[: len(r.tokens)] == r.tokens]
        return max(fitting, key=lambda root: len(root.tokens), default=None)

    def _grow(self, base: Root | None, family: list[Stem], older: list[Stem]) -> None:
        """Gives new stems on ``base`` that begin alike beyond it a root of their own, and so on from there.

        A root is the longest common prefix of its stems, older ones included; each keeps a token of its own.
        """
        start = len(base.tokens) if base else 0
        branches: dict[Tokens, list[Stem]] = defaultdict(list)
        for stem in family:
            branches[stem.tokens[start : start + MIN_ROOT]].append(stem)
        for head, branch in branches.items():
            known = [stem for stem in older if stem.tokens[start : start + MIN_ROOT] == head]
            relatives = branch + known
            first = min(relatives, key=lambda stem: len(stem.tokens)).tokens
            shared = min(min(common_length(first, stem.tokens) for stem in relatives), len(first) - 1)
            if not _worthwhile(base, shared - start, len(relatives)):
                continue
            root = Root(first[:shared], base)
            self.roots.append(root)
            for stem in branch:
                stem.root = root
            self._grow(root, branch, known)


def _worthwhile(base: Root | None, tokens: int, stems: int) -> bool:
    """Whether a root of so many tokens beyond ``base``, under so many stems, costs less than it saves."""
    return stems > 1 and tokens >= MIN_ROOT and (base is None or tokens * (stems - 1) >= MIN_SAVED)
