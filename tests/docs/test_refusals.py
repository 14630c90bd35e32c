"""What the documentation says is refused, is refused, in these words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.small_run import Astuner

PAGE = Path(__file__).resolve().parents[2] / "docs/math_agent.md"


def refused() -> list[tuple[str, str]]:
    """What is asked for on the command line, and a part of the answer."""
    text = PAGE.read_text(encoding="utf-8")
    rows = [
        line.split("|")[1:3] for line in text[text.index("| asked for |") :].splitlines() if line.startswith("| `-")
    ]
    rows += [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `task_")]
    return [(asked, answer.strip(" `")) for cell, answer in rows for asked in re.findall(r"`([^`]+)`", cell)]


def test_the_table_is_read() -> None:
    assert len(refused()) == 7


@pytest.mark.parametrize(("asked", "answer"), refused())
def test_it_is_refused_in_these_words(astuner: Astuner, asked: str, answer: str) -> None:
    done = astuner.command(*asked.split())
    assert (done.status, answer in done.err) == (2, True)
    assert not astuner.run.metrics.exists()
