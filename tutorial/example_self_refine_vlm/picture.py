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
from astune.refine.verdict import feedback_of
from astune.task_judge.answer_text import committed_answer
from tutorial.example_self_refine_vlm import grpo_vlm, shapes
from tutorial.example_self_refine_vlm.measure import Trace, traces

PICTURE = Path(__file__).parent / "samples.png"
_RIGHT, _WRONG, _INK = "#1a7f37", "#c0392b", "#333333"


def chosen(found: Sequence[Trace], count: int) -> list[Trace]:
    """The first ``count`` whose first answer is wrong, the kinds of question in turn."""
    by_kind = {kind: [t for t in found if t.problem.kind == kind and not t.chain.correct[0]] for kind in shapes.KINDS}
    turns = [trace for group in zip(*by_kind.values(), strict=False) for trace in group]
    return turns[:count]


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
        (f"Critique: {feedback_of(trace.critique) or '(empty)'}", _INK, "normal"),
        (f"Refined: {committed_answer(trace.refined) or '(none)'}", _RIGHT if last else _WRONG, "normal"),
    ]
    height = 0.97
    for text, colour, weight in blocks:
        lines = textwrap.wrap(text, 46)
        axis.text(0.0, height, "\n".join(lines), color=colour, weight=weight, fontsize=10, va="top")
        height -= 0.13 * len(lines) + 0.08


def main(arguments: Sequence[str] | None = None) -> None:
    """Samples and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(grpo_vlm.TINY), default="tiny-llava")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--out", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    model, processor = grpo_vlm.load_model(options.model)
    found = traces(model, processor, shapes.problems(90, "test", 3), seed=0)
    title = f"{options.model}: wrong first answers to test pictures, their critiques, and what became of them"
    draw(chosen(found, options.count), options.out, title)


if __name__ == "__main__":
    main()
