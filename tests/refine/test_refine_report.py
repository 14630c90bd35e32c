"""The console block, to the letter."""

from __future__ import annotations

import pytest

from astune.refine.report import (
    ExampleTrace,
    announcement,
    batch_report,
    logged_line,
    report_of_rows,
    shortened,
)
from astune.refine.training.outcomes import Transitions

EXAMPLE = ExampleTrace(
    "To solve this problem...", "The reasoning is correct but...", "Using the corrected approach...", True
)
SEED_BLOCK = """\
[Self-Refine Agent] Processing 4 incorrect samples using Self-Refine Agent (Critique + Refine)

📊 Self-Refine Agent Evaluation (Batch 1):
  Accuracy@t1: 4/8 = 50.00%
  Accuracy@t2: 6/8 = 75.00%
  Δ(batch):    +25.00% 📈

  Transitions:
    i→c:  2  |  i→i:  2
    c→c:  4  |  c→i:  0

  Example trace:
    Original: To solve this problem...
    Critique: The reasoning is correct but...
    Refined:  Using the corrected approach...
    Result: ✓ Correct

  ✓ Logged 8 samples to self_refine_log.jsonl"""


def test_the_block_of_the_seeds_numbers():
    block = batch_report(1, Transitions(ic=2, ii=2, cc=4, ci=0), EXAMPLE)
    parts = [announcement(4, use_critique=True), "", block, "", logged_line(8, "self_refine_log.jsonl")]
    assert "\n".join(parts) == SEED_BLOCK


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        (Transitions(0, 2, 1, 1), "  Δ(batch):    -25.00% 📉"),
        (Transitions(1, 1, 1, 1), "  Δ(batch):    +0.00% ➡️"),
        (Transitions(0, 0, 0, 0), "  Δ(batch):    n/a"),
    ],
)
def test_a_loss_a_draw_and_nothing(counts, line):
    assert line in batch_report(1, counts).split("\n")


def test_counts_of_two_and_three_digits_stay_aligned():
    lines = batch_report(1, Transitions(12, 2, 345, 0)).split("\n")
    assert "    i→c: 12  |  i→i:  2" in lines
    assert "    c→c: 345  |  c→i:  0" in lines


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1, True), "Processing 1 incorrect sample using Self-Refine Agent (Critique + Refine)"),
        ((4, False), "Processing 4 incorrect samples using Self-Refine Agent (Refine)"),
        ((4, True, 3), "using Self-Refine Agent (Critique + Refine, up to 3 rounds)"),
    ],
)
def test_the_announcement_names_the_stages(arguments, text):
    assert text in announcement(*arguments)


def test_without_a_critique_the_example_has_no_such_line():
    block = batch_report(1, Transitions(1, 0, 0, 0), ExampleTrace("a", None, "b", True))
    assert "Critique" not in block


def test_an_empty_critique_is_shown_as_empty():
    assert "    Critique: (empty)" in batch_report(1, Transitions(1, 0, 0, 0), ExampleTrace("a", " ", "b", False))


def test_rows_that_could_not_be_graded_are_told_apart():
    assert "  Not graded:  3" in batch_report(1, Transitions(1, 0, 0, 0), ungraded=3)


def test_a_report_of_no_rows_is_refused():
    with pytest.raises(ValueError, match="without rows"):
        report_of_rows([])


def test_a_long_text_is_one_line_and_its_cut_is_marked():
    text = shortened("First line.\nSecond line. " * 20)
    assert "\n" not in text
    assert len(text) <= 60
    assert text.endswith("...")
