"""Whether a run has seen the test: its problems in the workspace, canaries, and the gap between test and twin.

The twin of the test is drawn alike and shown to nobody either. It tells how much overlap chance and the
problems' templates explain, so that it is the excess on the test that counts.

What this cannot see: text that is compressed, encrypted, encoded or paraphrased, and what was deleted. The gap
between the scores on test and twin is the measure that such tricks don't change.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from astune.report.statistics import Z95, wilson_interval
from autorl_bench.submission.findings import Finding, Findings, FlagCode
from autorl_bench.submission.needles import Ids, Needles, tokens_of
from autorl_bench.submission.walk import Coverage, ScanLimits, read_workspace
from autorl_bench.types import Evaluation, Item

#: An item of whose runs of 13 words at least this share occurs in the workspace is called similar.
SIMILAR = 0.8
#: The overlap with the test exceeds that with the twin when chance gives it less often than this (Fisher, one-sided).
CHANCE = 0.05
#: This share of the test's items word for word is too much, whatever the twin says.
TOO_MANY = 0.05
#: Normal quantile for the flag of a gap (one honest submission in 740); the interval that is shown is the 95 % one.
GAP_Z = 3.0

_READABLE = bytes(range(32, 127)) + b"\t\n\r"
_LEAST_READABLE = 0.6
_LONGEST_WORD = 1000
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)


@dataclass(frozen=True, slots=True)
class GroupOverlap:
    """Items of one split that were looked for, and the ids of those found word for word, or in large part."""

    items: int
    exact: tuple[str, ...]
    similar: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What of the vault occurs in a workspace; ``places`` are files that hold whole test or twin items."""

    test: GroupOverlap
    twin: GroupOverlap
    canaries: int
    places: tuple[str, ...]
    coverage: Coverage

    @property
    def findings(self) -> Findings:
        """What follows from the counts."""
        found = (self._exact(), self._similar(), self._canary(), self._incomplete())
        return Findings(tuple(finding for finding in found if finding))

    def _exact(self) -> Finding | None:
        hits, p_value = len(self.test.exact), _excess(self.test, self.twin, "exact")
        untwinned = hits > 0 and self.twin.items == 0
        if not (untwinned or p_value < CHANCE or hits > TOO_MANY * max(1, self.test.items)):
            return None
        return Finding(
            FlagCode.TEST_ITEMS_IN_WORKSPACE,
            f"{hits} of {self.test.items} test problems stand word for word in the workspace, "
            f"the first in {self.places[0]}.",
            self._evidence("exact", p_value),
        )

    def _similar(self) -> Finding | None:
        p_value = _excess(self.test, self.twin, "similar")
        if p_value >= CHANCE:
            return None
        return Finding(
            FlagCode.TEST_NGRAMS_IN_WORKSPACE,
            f"{len(self.test.similar)} of {self.test.items} test problems stand in the workspace in large part, "
            f"of the twin {len(self.twin.similar)} of {self.twin.items}.",
            self._evidence("similar", p_value),
        )

    def _evidence(self, kind: str, p_value: float) -> dict[str, float]:
        return {
            "test_found": len(getattr(self.test, kind)),
            "test_items": self.test.items,
            "twin_found": len(getattr(self.twin, kind)),
            "twin_items": self.twin.items,
            "p_value": p_value,
        }

    def _canary(self) -> Finding | None:
        if not self.canaries:
            return None
        message = f"{self.canaries} canaries of the vault stand in the workspace: files of the grader were read."
        return Finding(FlagCode.CANARY_IN_WORKSPACE, message, {"canaries": self.canaries})

    def _incomplete(self) -> Finding | None:
        if not self.coverage.unread:
            return None
        return Finding(
            FlagCode.SCAN_INCOMPLETE,
            f"{self.coverage.unread} files or folders were not read to their end, such as {self.coverage.examples[0]}.",
            {"unread": self.coverage.unread, "bytes_read": self.coverage.bytes_read},
        )


def scan_workspace(
    workspace: Path,
    test: Sequence[Item],
    twin: Sequence[Item] = (),
    public: Sequence[Item] = (),
    canaries: Sequence[str] = (),
    limits: ScanLimits | None = None,
) -> Overlap:
    """Looks for the test's problems in every file of a workspace: text, JSON, code, and text inside binary files.

    Args:
        workspace: the run's folder. The agent's processes should be gone; if not, what vanishes is counted as unread.
        test: the hidden items; ``twin`` the equally hidden ones drawn alike.
        public: items that the agent was given (train, dev): no evidence.
        canaries: strings that stand in the vault's files and nowhere else.
        limits: bounds on what is read.
    """
    needles = Needles([*test, *twin], public)
    haystack = _Haystack(needles, [canary.encode() for canary in canaries])
    coverage = Coverage()
    places = []
    for path, pieces in read_workspace(workspace, limits or ScanLimits(), coverage):
        # A sum, not any(): every piece is to be read.
        if sum(map(haystack.take, pieces)) + haystack.end_file():
            places.append(path)
    return Overlap(_group(test, needles), _group(twin, needles), len(haystack.canaries_found), tuple(places), coverage)


def _group(items: Sequence[Item], needles: Needles) -> GroupOverlap:
    ids = {item.id for item in items}
    exact = [item_id for item_id in needles.whole() if item_id in ids]
    covered = needles.covered()
    similar = [item_id for item_id, share in covered.items() if item_id in ids and share >= SIMILAR]
    return GroupOverlap(len(ids.intersection(needles.ids)), tuple(exact), tuple(similar))


class _Haystack:
    """One file after another in pieces: what was cut at a piece's end is put together with the next piece."""

    def __init__(self, needles: Needles, canaries: Sequence[bytes]):
        self._needles = needles
        self._canaries = canaries
        self._canary_overlap = max(map(len, canaries), default=0)
        self.canaries_found: set[bytes] = set()
        self._forget()

    def end_file(self) -> bool:
        """Searches what was held back, and forgets the file; returns as :meth:`take`."""
        found = self._search_both(self._word)
        self._forget()
        return found

    def _forget(self) -> None:
        self._last = b""
        self._word = b""
        self._plain = self._unescaped = np.empty(0, dtype=np.uint64)

    def take(self, piece: bytes) -> bool:
        """Searches one piece; returns whether it completed a problem that had not been found before."""
        joined = self._last + piece
        self.canaries_found.update(canary for canary in self._canaries if canary in joined)
        self._last = joined[-self._canary_overlap :] if self._canary_overlap else b""
        if len(piece.translate(None, _READABLE)) > (1 - _LEAST_READABLE) * len(piece) and not _is_text(piece):
            return False  # weights: numbers, not words
        text, self._word = _split_last_word(self._word + piece)
        return self._search_both(text)

    def _search_both(self, text: bytes) -> bool:
        self._plain, found = self._search(self._plain, text)
        # JSON writes a line break as \n, which would stick to the next word; LaTeX means its backslashes.
        self._unescaped, more = self._search(self._unescaped, _ESCAPE.sub(_unescape, text))
        return found or more

    def _search(self, before: Ids, text: bytes) -> tuple[Ids, bool]:
        ids = np.concatenate([before, self._needles.numbers(tokens_of(text))])
        found = self._needles.search(ids)
        return ids[max(0, len(ids) - self._needles.longest + 1) :], found


def _is_text(piece: bytes) -> bool:
    """Whether bytes beyond ASCII are UTF-8 (a character may be cut at either end)."""
    text = piece.decode(errors="ignore")
    return len(text.encode()) >= len(piece) - 6 and "\0" not in text


def _split_last_word(text: bytes) -> tuple[bytes, bytes]:
    """The text up to the last blank, and the rest, unless that is longer than any word."""
    cut = max(text.rfind(b" "), text.rfind(b"\n")) + 1
    return (text[:cut], text[cut:]) if len(text) - cut < _LONGEST_WORD else (text, b"")


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return chr(int(match[1], 16)).encode(errors="replace")
    return b" " if match[2] in b"ntrbf" else match[2]


def _excess(test: GroupOverlap, twin: GroupOverlap, kind: str) -> float:
    """One-sided exact test (Fisher) of the test's share of found items against the twin's; 1 without twin."""
    hits, others = len(getattr(test, kind)), len(getattr(twin, kind))
    found, size = hits + others, test.items + twin.items
    if not hits or not twin.items:
        return 1.0
    ways = sum(
        math.comb(test.items, k) * math.comb(twin.items, found - k) for k in range(hits, min(found, test.items) + 1)
    )
    return ways / math.comb(size, found)


@dataclass(frozen=True, slots=True)
class TwinGap:
    """Accuracy on the test minus accuracy on its twin, in percent points, with a 95 % interval.

    ``surely_above`` is the lower end of a much wider interval (3 standard errors): above 0 the test is known by heart.
    """

    difference: float
    ci95: tuple[float, float]
    surely_above: float

    @property
    def findings(self) -> Findings:
        """A flag where the gap is no accident."""
        if self.surely_above <= 0:
            return Findings()
        low, high = self.ci95
        message = (
            f"The score on the test is {self.difference:.1f} points above that on its twin "
            f"(95 %: {low:.1f} to {high:.1f}), which is drawn alike."
        )
        evidence = {"difference": self.difference, "low": low, "high": high, "surely_above": self.surely_above}
        return Findings((Finding(FlagCode.TEST_TWIN_GAP, message, evidence),))


def twin_gap(test: Evaluation, twin: Evaluation) -> TwinGap:
    """Compares the accuracies of one model on the test and on its twin (independent samples).

    The intervals are Newcombe's hybrid of Wilson's (Newcombe, 1998, method 10).
    """
    return TwinGap((test.accuracy - twin.accuracy), _newcombe(test, twin), _newcombe(test, twin, GAP_Z)[0])


def _newcombe(test: Evaluation, twin: Evaluation, z: float = Z95) -> tuple[float, float]:
    p, q = test.accuracy / 100, twin.accuracy / 100
    p_low, p_high = wilson_interval(test.n_correct, len(test.results), z)
    q_low, q_high = wilson_interval(twin.n_correct, len(twin.results), z)
    low = p - q - math.hypot(p - p_low, q_high - q)
    high = p - q + math.hypot(p_high - p, q - q_low)
    return 100 * low, 100 * high
