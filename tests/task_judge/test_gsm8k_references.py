"""answers_match is right on every reference of GSM8K, in every spelling seen in model answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from astune.task_judge import symbolic
from astune.task_judge.math_answer_as_judge import answers_match

SIZES = {"train": 7473, "test": 1319}

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda ref: ref,
    "box": lambda ref: rf"\boxed{{{ref}}}",
    "nested braces": lambda ref: rf"\boxed{{{{{ref}}}}}",
    "without commas": lambda ref: ref.replace(",", ""),
    "LaTeX commas": lambda ref: rf"\boxed{{{ref.replace(',', '{,}')}}}",
    "thin spaces": lambda ref: rf"\boxed{{{ref.replace(',', chr(92) + ',')}}}",
    "decimal": lambda ref: f"{ref}.0",
    "decimals": lambda ref: rf"\boxed{{{ref}.00}}",
    "dollar": lambda ref: f"${ref}",
    "escaped dollar": lambda ref: rf"\boxed{{\${ref}}}",
    "math mode": lambda ref: f"${ref}$",
    "unit": lambda ref: f"{ref} eggs",
    "unit as text": lambda ref: rf"\boxed{{{ref}\text{{ dollars per day}}}}",
    "percent": lambda ref: rf"\boxed{{{ref}\%}}",
    "several boxes": lambda ref: rf"\boxed{{7{ref[-1]}1}}, so \boxed{{{ref}}}.",
    "fraction": lambda ref: rf"\boxed{{\frac{{{ref}}}{{1}}}}",
    "marker": lambda ref: f"some 12 + 3 = 15 steps\n#### {ref}",
    "sentence": lambda ref: f"The answer is {ref}.",
}


@pytest.fixture(autouse=True)
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a plain number went to the sandbox")

    monkeypatch.setattr(symbolic._grader, "sandbox", refuse)


@pytest.fixture(scope="session")
def references(gsm8k: Path) -> set[str]:
    found = []
    for split, size in SIZES.items():
        lines = (gsm8k / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(lines) == size
        found += [json.loads(line)["answer"].rpartition("#### ")[2] for line in lines]
    assert sum("," in reference for reference in found) == 93
    return set(found)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_reference_matches_itself(spelling: str, references: set[str]) -> None:
    spell = SPELLINGS[spelling]
    assert [ref for ref in references if answers_match(spell(ref), ref) is not True] == []


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_changed_number_is_wrong(spelling: str, references: set[str]) -> None:
    spell = SPELLINGS[spelling]
    changed = {ref: f"{int(ref.replace(',', '')) + 1:,}" for ref in references}
    assert [ref for ref, other in changed.items() if answers_match(spell(other), ref) is not False] == []


def test_a_digit_more_is_wrong(references: set[str]) -> None:
    plain = [ref.replace(",", "") for ref in references if ref != "0"]
    assert [ref for ref in plain if answers_match(f"{ref}0", ref) or answers_match(f"1{ref.lstrip('-')}", ref)] == []
