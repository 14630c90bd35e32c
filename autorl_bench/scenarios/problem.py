"""One problem as its source knows it, and the split that it belongs to, whatever the seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from astune.task_reader.nano_gsm import split_of
from autorl_bench.types import Split


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem.

    ``key`` is what it is once wording is taken away: equal keys are the same problem, and a key belongs to one
    split for good. ``target`` is what the checker compares with. ``solution`` is a worked one for the training data;
    ``extra`` holds further fields of the training record. Neither is in an item of another split.
    """

    key: str
    question: str
    target: str
    solution: str
    extra: Mapping[str, Any] = field(default_factory=dict)


class Generator(Protocol):
    """Draws problems at random; made with the scenario's ``source.arguments``."""

    def draw(self, rng: Random, index: int) -> Problem:
        """Draws one problem with ``rng`` and nothing else; ``index`` counts those accepted so far."""
        ...


def region_of(key: str) -> Split:
    """The split that a problem belongs to: a function of its key alone, so that no seed can mix them.

    Four in five are ``train``: the share, and the problems, that nano_gsm itself calls so. Of the rest, one quarter
    each is ``dev`` and ``twin``, and one half ``test``.
    """
    if split_of(key) == "train":
        return "train"
    held_out: tuple[Split, ...] = ("dev", "test", "test", "twin")
    return held_out[hashlib.sha256(key.encode()).digest()[1] % 4]
