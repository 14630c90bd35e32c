"""What the integrity checks notice about a submission that could be evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from autorl_bench.types import Flag, Verdict


class FlagCode(StrEnum):
    """What was noticed. The value is the stable name in the store and on the board."""

    IDENTICAL_TO_BASE = "identical_to_base"
    NEAR_COPY_OF_BASE = "near_copy_of_base"
    REPLACED_FILES = "replaced_files"
    SIBLING_MODEL = "sibling_model"
    TEST_ITEMS_IN_WORKSPACE = "test_items_in_workspace"
    TEST_NGRAMS_IN_WORKSPACE = "test_ngrams_in_workspace"
    CANARY_IN_WORKSPACE = "canary_in_workspace"
    TEST_TWIN_GAP = "test_twin_gap"
    SCAN_INCOMPLETE = "scan_incomplete"

    @property
    def binds(self) -> bool:
        """Whether a run with this flag is ranked apart; the others tell how to read an honest score."""
        return self not in _NOTICES


_NOTICES = frozenset(
    {FlagCode.IDENTICAL_TO_BASE, FlagCode.NEAR_COPY_OF_BASE, FlagCode.REPLACED_FILES, FlagCode.SCAN_INCOMPLETE}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing noticed: a sentence for people, and the numbers that it rests on."""

    code: FlagCode
    message: str
    evidence: Mapping[str, float] = field(default_factory=dict)

    @property
    def flag(self) -> Flag:
        """As the store and the board know it."""
        return Flag(self.code.value, self.message, self.evidence)


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was noticed about one submission; add those of several checks with ``+``."""

    all: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The flags that bind: with any of them the run is ranked apart."""
        return Verdict(tuple(finding.flag for finding in self.all if finding.code.binds))

    @property
    def notices(self) -> tuple[Flag, ...]:
        """The flags that are shown beside the score and change no rank."""
        return tuple(finding.flag for finding in self.all if not finding.code.binds)

    def __add__(self, other: Findings) -> Findings:
        return Findings(self.all + other.all)
