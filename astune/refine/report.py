"""The console report of one refined batch: numbers in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from astune.refine.log import LogRow
from astune.refine.training.outcomes import Transitions

_TEXT_WIDTH = 60
_RESULTS = {True: "✓ Correct", False: "✗ Incorrect", None: "? Not graded"}


@dataclass(frozen=True, slots=True)
class ExampleTrace:
    """One row to show: its texts, and whether it ended correct (None: not graded). ``critique`` may be None."""

    original: str
    critique: str | None
    refined: str
    correct: bool | None


def stage_name(use_critique: bool, max_refine_rounds: int = 1) -> str:
    """What the agent calls what it does: ``Critique + Refine``, and how often where more than once."""
    name = "Critique + Refine" if use_critique else "Refine"
    return name if max_refine_rounds == 1 else f"{name}, up to {max_refine_rounds} rounds"


def announcement(count: int, use_critique: bool, max_refine_rounds: int = 1, *, kind: str = "incorrect sample") -> str:
    """The line before the agent starts to sample."""
    rows = f"{count} {kind}{'' if count == 1 else 's'}"
    return (
        f"[Self-Refine Agent] Processing {rows} using Self-Refine Agent ({stage_name(use_critique, max_refine_rounds)})"
    )


def report_of_rows(rows: Sequence[LogRow]) -> str:
    """The block for the rows of one batch; the example is one that refinement made correct, where there is one.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("a batch without rows has no report")
    graded = [
        (row.was_correct_at_t1, row.is_correct_at_t2)
        for row in rows
        if row.was_correct_at_t1 is not None and row.is_correct_at_t2 is not None
    ]
    transitions = Transitions.of([before for before, _ in graded], [after for _, after in graded])
    return batch_report(rows[0].batch, transitions, _pick(rows), ungraded=len(rows) - len(graded))


def batch_report(
    batch: int, transitions: Transitions, example: ExampleTrace | None = None, *, ungraded: int = 0
) -> str:
    """The block after a batch: accuracies, their difference, transitions and one example.

    Args:
        batch: its number as shown, from 1.
        transitions: of the graded rows.
        example: a refined row; left out where there is none.
        ungraded: rows that could not be graded at t1 or t2; they are in none of the numbers.
    """
    counts = transitions
    lines = [
        f"📊 Self-Refine Agent Evaluation (Batch {batch}):",
        f"  Accuracy@t1: {_rate(counts.correct_at_t1, counts.total)}",
        f"  Accuracy@t2: {_rate(counts.correct_at_t2, counts.total)}",
        f"  Δ(batch):    {_difference(counts)}",
        *([f"  Not graded:  {ungraded}"] if ungraded else []),
        "",
        "  Transitions:",
        f"    i→c: {counts.ic:>2}  |  i→i: {counts.ii:>2}",
        f"    c→c: {counts.cc:>2}  |  c→i: {counts.ci:>2}",
        *(_example(example) if example is not None else []),
    ]
    return "\n".join(lines)


def logged_line(rows: int, file: str) -> str:
    """The line that says where the rows went."""
    return f"  ✓ Logged {rows} sample{'' if rows == 1 else 's'} to {file}"


def shortened(text: str, width: int = _TEXT_WIDTH) -> str:
    """A text in one line of at most ``width`` characters; a cut is marked by ``...``."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3].rstrip() + "..."


def _pick(rows: Sequence[LogRow]) -> ExampleTrace | None:
    refined = [row for row in rows if row.refined is not None]
    gained = [row for row in refined if row.transition == "i→c"]
    for row in gained or refined:
        return ExampleTrace(row.original, row.critique, row.refined or "", row.is_correct_at_t2)
    return None


def _rate(correct: int, total: int) -> str:
    return f"{correct}/{total} = {correct / total:.2%}" if total else "0/0 = n/a"


def _difference(counts: Transitions) -> str:
    if not counts.total:
        return "n/a"
    difference = counts.ic - counts.ci
    sign = "📈" if difference > 0 else "📉" if difference < 0 else "➡️"
    return f"{difference / counts.total:+.2%} {sign}"


def _example(example: ExampleTrace) -> list[str]:
    critique = [] if example.critique is None else [f"    Critique: {shortened(example.critique) or '(empty)'}"]
    return [
        "",
        "  Example trace:",
        f"    Original: {shortened(example.original) or '(empty)'}",
        *critique,
        f"    Refined:  {shortened(example.refined) or '(empty)'}",
        f"    Result: {_RESULTS[example.correct]}",
    ]
