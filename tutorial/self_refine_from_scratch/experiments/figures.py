"""Draws the figures of README.md: ``python -m experiments.figures`` in the tutorial's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from from_scratch import Generator, QuadraticScorer, reflect_and_edit, self_refine
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import self_confirmation as bias
from experiments.step_size import CurvedScorer

FOLDER = Path(__file__).parent.parent
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#777777"
STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
}


def main() -> None:
    """Writes figures/loop.png (the derivation) and figures/questions.png (what the experiments found)."""
    (FOLDER / "figures").mkdir(exist_ok=True)
    results = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))

    with plt.rc_context(STYLE):
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13.5, 4.2), layout="constrained")
        _error_by_round(left)
        _paths(middle)
        _best_and_latest(right)
        _save(figure, "loop.png")

        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13.5, 4.2), layout="constrained")
        _self_confirmation(left)
        _budgets(middle, results["best_of_n"])
        _memory(right, results["memory"])
        _save(figure, "questions.png")


def _save(figure: Figure, name: str) -> None:
    figure.savefig(FOLDER / "figures" / name, dpi=130)
    plt.close(figure)


def _error_by_round(axes: Axes) -> None:
    scorer = QuadraticScorer(torch.zeros(6, dtype=torch.float64))
    for step_size, colour, where in (
        (0.1, BLUE, (8, 0.8**8, 8)),
        (0.25, GREEN, (5, 0.5**5, 8)),
        (0.5, PURPLE, (0.72, 5e-3, -12)),
        (1.0, ORANGE, (6, 1.0, -14)),
        (1.1, RED, (6, 1.2**6, 14)),
    ):
        candidate_D = torch.full((6,), 6**-0.5, dtype=torch.float64)
        errors = []
        for _ in range(11):
            errors.append(max(float(candidate_D.norm()), 1e-9))
            candidate_D = reflect_and_edit(candidate_D, scorer, step_size)
        axes.plot(errors, color=colour, marker="o", markersize=3.5)
        label = f"η = {step_size:g}"
        x, y, shift = where
        axes.annotate(label, (x, y), xytext=(6, shift), textcoords="offset points", color=colour)
    axes.set(yscale="log", ylim=(5e-4, 12), xlabel="round", ylabel="distance to the target (start = 1)")
    axes.set_title("The error shrinks by |1 − 2η| a round")


def _paths(axes: Axes) -> None:
    """Two paths in a bowl that is ten times as steep one way: one step size below the limit of 0.2, one above."""
    hessian_DD = torch.tensor([[1.0, 0.0], [0.0, 10.0]])
    scorer = CurvedScorer(torch.zeros(2), hessian_DD)
    xs, ys = torch.linspace(-0.6, 4.6, 200), torch.linspace(-1.7, 1.7, 200)
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)
    axes.contour(
        xs,
        ys,
        scorer.score(grid),
        levels=[-16, -8, -4, -2, -1, -0.3],
        colors="#cccccc",
        linewidths=0.8,
        linestyles="solid",
    )
    for step_size, rounds, start, colour in ((0.185, 14, 1.0, BLUE), (0.207, 11, 0.55, RED)):
        candidate_D = torch.tensor([4.2, start])
        path = [candidate_D]
        for _ in range(rounds):
            path.append(reflect_and_edit(path[-1], scorer, step_size))
        points = torch.stack(path)
        verb = "converges" if step_size < 0.2 else "diverges"
        label = f"η = {step_size:g} {verb}"
        axes.plot(points[:, 0], points[:, 1], color=colour, marker="o", markersize=3.5, linewidth=1.2, label=label)
    axes.plot(0, 0, marker="*", markersize=13, color="black", linestyle="none", label="target")
    axes.set(xlabel="x₁ (λ = 1)", ylabel="x₂ (λ = 10)", xlim=(-0.6, 4.6), ylim=(-1.7, 1.9))
    axes.legend(loc="upper right", ncols=3, columnspacing=0.9, handletextpad=0.4, fontsize=8.5)
    axes.set_title("The steepest direction sets the limit: η < 0.2")


def _best_and_latest(axes: Axes) -> None:
    torch.manual_seed(4)
    scorer = QuadraticScorer(1.5 * torch.ones(6))
    result = self_refine(Generator(6, noise=1.0), scorer, rounds=16, step_size=0.25)
    axes.plot(result.score_history, color=ORANGE, marker="o", markersize=3.5, label="latest")
    axes.step(
        range(len(result.best_so_far)), result.best_so_far, where="post", color=BLUE, linewidth=2, label="best so far"
    )
    axes.set(xlabel="round", ylabel="score −‖x − t‖²")
    axes.legend(loc="lower right")
    axes.set_title("With noise: the latest wanders, the best stays")


def _self_confirmation(axes: Axes) -> None:
    torch.manual_seed(0)
    bias_SD, other_SD = torch.randn(2, bias.PROBLEMS, bias.DIM)
    first_SD = bias.NEAR * torch.randn(bias.PROBLEMS, bias.DIM)
    generator = QuadraticScorer(bias_SD)
    alone = bias.keep_best(first_SD, generator, generator)
    judged = bias.keep_best(first_SD, generator, QuadraticScorer(other_SD))
    for kept, judge, colour, style, label in (
        (alone, generator, RED, "--", "judged by itself: what it sees"),
        (alone, bias.TRUTH, RED, "-", "judged by itself: the truth"),
        (judged, bias.TRUTH, BLUE, "-", "judged by a stranger: the truth"),
    ):
        gains = [float((judge.score(kept_SD) - judge.score(first_SD)).mean()) for kept_SD in kept]
        axes.plot(gains, color=colour, linestyle=style, marker="o", markersize=3.5, label=label)
    axes.set(xlabel="round", ylabel="mean gain in score")
    axes.legend(loc="center right", fontsize=9)
    axes.set_title("Self-confirmation: a gain that only it can see")


def _budgets(axes: Axes, table: list[list[str]]) -> None:
    budgets = [int(column.split()[-1]) for column in table[0][1:]]
    looks = {
        "best-of-N, D = 2": (GREY, ":"),
        "best-of-N, D = 8": (GREY, "-"),
        "refine, D = 8, feedback cos = 1": (GREEN, "-"),
        "refine, D = 8, feedback cos = 0.5": (BLUE, "-"),
        "refine, D = 8, feedback cos = 0.3": (ORANGE, "-"),
        "refine, D = 8, feedback cos = 0": (RED, "-"),
    }
    for name, *cells in table[1:]:
        colour, style = looks[name]
        scores = [_number(cell) for cell in cells]
        label = name.replace("refine, D = 8, feedback cos", "refine, D = 8, cos")
        axes.plot(budgets, scores, color=colour, linestyle=style, marker="o", markersize=3.5, label=label)
    axes.set(xscale="log", xlabel="scored attempts", ylabel="score of the best", ylim=(-17, 9))
    axes.set_xticks(budgets, [str(budget) for budget in budgets])
    axes.minorticks_off()
    axes.set_yticks([-15, -10, -5, 0])
    axes.legend(loc="upper left", ncols=2, fontsize=8.5, columnspacing=1.0)
    axes.set_title("Equal budgets: it depends on the feedback")


def _memory(axes: Axes, table: list[list[str]]) -> None:
    short = ["task stays,\nlessons right", "right plan\nfails 30 %", "task changes\nevery trial", "blames at\nrandom"]
    for column, offset, colour in ((1, -0.2, GREY), (4, 0.2, BLUE)):
        cells = [row[column] for row in table[1:]]
        places = [place + offset for place in range(len(cells))]
        halves = [float(cell.split("±")[1].strip(" %")) for cell in cells]
        bars = axes.bar(
            places, [_number(cell) for cell in cells], 0.38, yerr=halves, color=colour, label=table[0][column]
        )
        axes.bar_label(bars, labels=[f"{_number(cell):.0f}" for cell in cells], padding=2, fontsize=9)
    axes.set_xticks(range(len(short)), short, fontsize=9)
    axes.set(ylabel="solved within 8 trials, %", ylim=(0, 100))
    axes.legend(loc="upper right")
    axes.set_title("Memory helps when its lessons stay true")


def _number(cell: str) -> float:
    return float(cell.split("±")[0].replace("\N{MINUS SIGN}", "-"))


if __name__ == "__main__":
    main()
