"""Draws docs/images/advantages.png: rewards of three groups, and the advantages that GRPO makes of them.

python scripts/draw_advantages.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from astune.trainer.advantages import grpo_advantages

IMAGE = Path(__file__).resolve().parent.parent / "docs" / "images" / "advantages.png"
INK, SOFT, GRID = "#22303c", "#5b6b78", "#e4e7ea"
UP, DOWN, REWARD = "#2f7d4f", "#b5473c", "#3451c7"
#: Rewards of eight attempts each at three problems; a bad habit costs a right and a wrong answer 0.2.
GROUPS = {
    "some right: informative": [1.0, 0.0, 1.0, 0.8, 0.0, -0.2, 0.0, 1.0],
    "all right: skipped": [1.0] * 8,
    "all wrong: skipped": [0.0] * 8,
}


def draw(rewards: list[float], title: str, above: Axes, below: Axes) -> None:
    """One group: its rewards with their mean, and its advantages."""
    attempts = range(1, len(rewards) + 1)
    mean = sum(rewards) / len(rewards)
    [advantages] = grpo_advantages(torch.tensor([rewards])).tolist()
    above.set_title(title, loc="left", fontsize=10, color=INK)
    above.axhline(mean, color=SOFT, lw=1, ls=(0, (4, 3)))
    above.text(8.7, mean, " mean", va="center", fontsize=8, color=SOFT)
    above.scatter(attempts, rewards, color=REWARD, s=34, zorder=3)
    above.set_ylim(-0.45, 1.25)
    below.axhline(0, color=SOFT, lw=1)
    below.bar(attempts, advantages, color=[UP if value > 0 else DOWN for value in advantages], width=0.62)
    below.set_ylim(-1.9, 1.9)
    below.set_xlabel("attempt", fontsize=8.5, color=SOFT)
    below.set_xticks(list(attempts))
    if not any(advantages):
        below.text(4.5, 0.35, "no gradient", ha="center", fontsize=9, color=SOFT)
    for axes in (above, below):
        axes.set_xlim(0.4, 8.6)
        axes.grid(axis="y", color=GRID, lw=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8, colors=SOFT, length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)


def main() -> None:
    figure = Figure(figsize=(10, 4.1), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(GROUPS), sharey="row", sharex=True)
    for column, (title, rewards) in enumerate(GROUPS.items()):
        draw(rewards, title, grid[0][column], grid[1][column])
    grid[0][0].set_ylabel("reward", fontsize=9, color=INK)
    grid[1][0].set_ylabel("advantage", fontsize=9, color=INK)
    figure.savefig(IMAGE, dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    main()
