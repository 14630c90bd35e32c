"""Draws sample pictures with what the tiny model says of them: first answer, critique, refined answer.

python -m tutorial.example_self_refine_vlm.picture --model tiny-llava
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from astune.files import atomic_path
from astune.task_judge.answer_text import committed_answer
from tutorial.example_self_refine_vlm import grpo_vlm, shapes
from tutorial.example_self_refine_vlm.measure import Trace, traces

PICTURE = Path(__file__).parent / "samples.png"
_RIGHT, _WRONG, _INK = "#1a7f37", "#c0392b", "#333333"


def chosen(found: Sequence[Trace], rows: int) -> list[Trace]:
    """Wrong first answers, two a row: one that refinement corrected, one that it did not; kinds of question in turn."""
    wrong = [trace for trace in found if not trace.chain.correct[0]]
    corrected = _in_turn([trace for trace in wrong if trace.chain.correct[1]])
    still_wrong = _in_turn([trace for trace in wrong if not trace.chain.correct[1]])
    return [trace for pair in list(zip(corrected, still_wrong, strict=False))[:rows] for trace in pair]


def _in_turn(found: Sequence[Trace]) -> list[Trace]:
    by_kind = [[trace for trace in found if trace.problem.kind == kind] for kind in shapes.KINDS]
    return [trace for group in zip(*by_kind, strict=False) for trace in group]


def draw(found: Sequence[Trace], path: Path, title: str) -> None:
    """A grid of two columns: each picture beside its question and the three texts."""
    rows = (len(found) + 1) // 2
    figure, axes = plt.subplots(rows, 4, figsize=(13, 2.35 * rows + 0.5), width_ratios=[1, 2.3, 1, 2.3], squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for number, trace in enumerate(found):
        column = 2 * (number % 2)
        _picture(axes[number // 2, column], trace)
        _texts(axes[number // 2, column + 1], trace)
    figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)


def _picture(axis: Axes, trace: Trace) -> None:
    axis.imshow(trace.problem.scene.draw(), interpolation="nearest")
    axis.axis("on")
    axis.set_xticks([])
    axis.set_yticks([])


def _texts(axis: Axes, trace: Trace) -> None:
    first, last = trace.chain.correct
    blocks = [
        (f"{trace.problem.question}  [{trace.problem.answer}]", _INK, "bold"),
        (f"First: {committed_answer(trace.first) or '(none)'}", _RIGHT if first else _WRONG, "normal"),
        (f"Critique: {_words(trace.critique)}", _INK, "normal"),
        (f"Refined: {committed_answer(trace.refined) or '(none)'}", _RIGHT if last else _WRONG, "normal"),
    ]
    height = 0.97
    for text, colour, weight in blocks:
        lines = textwrap.wrap(text, 52)
        axis.text(0.0, height, "\n".join(lines), color=colour, weight=weight, fontsize=10, va="top")
        height -= 0.12 * len(lines) + 0.07


def _words(critique: str) -> str:
    """A critique on one line; what it thinks stands in parentheses."""
    return " ".join(critique.replace("<think>", "(").replace("</think>", ")").split()) or "(empty)"


def main(arguments: Sequence[str] | None = None) -> None:
    """Samples and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(grpo_vlm.TINY), default="tiny-llava")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--out", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    model, processor = grpo_vlm.load_model(options.model)
    found = traces(model, processor, shapes.problems(150, "test", 3), seed=0)
    wrong = [trace for trace in found if not trace.chain.correct[0]]
    corrected = sum(bool(trace.chain.correct[1]) for trace in wrong)
    title = (
        f"{options.model}, before GRPO: {len(wrong)} of {len(found)} first answers are wrong; {corrected} of them are "
        "corrected (left), the others not (right)"
    )
    draw(chosen(found, options.rows), options.out, title)


if __name__ == "__main__":
    main()
