"""Draws the data flows of docs/SELF_REFINE_ARCHITECTURE.md and docs/SAMPLER_ARCHITECTURE.md into docs/images.

python scripts/draw_refine_flows.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
COLOURS = {
    "trainer": "#dbe7f6",
    "agent": "#fdf0d5",
    "sampled": "#e0f2e0",
    "decision": "#f6dfe3",
    "output": "#eeeeee",
}
INK, SOFT = "#22303c", "#5b6b78"


@dataclass(frozen=True)
class Box:
    """A labelled box; ``x`` and ``y`` are its centre."""

    x: float
    y: float
    text: str
    kind: str
    width: float = 2.5
    height: float = 0.8

    def draw(self, axes: Axes) -> None:
        """Adds the box to ``axes``."""
        corner = (self.x - self.width / 2, self.y - self.height / 2)
        style = "round,pad=0,rounding_size=0.1"
        axes.add_patch(
            FancyBboxPatch(corner, self.width, self.height, boxstyle=style, fc=COLOURS[self.kind], ec=INK, lw=1.1)
        )
        axes.text(self.x, self.y, self.text, ha="center", va="center", fontsize=8.5, color=INK, linespacing=1.35)

    def side(self, name: str, shift: float = 0.0) -> tuple[float, float]:
        """The middle of a side, moved along it by ``shift``."""
        across = {"left": -self.width / 2, "right": self.width / 2}
        if name in across:
            return self.x + across[name], self.y + shift
        return self.x + shift, self.y + {"top": self.height / 2, "bottom": -self.height / 2}[name]


def arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    label: str = "",
    *,
    bend: float = 0.0,
    offset: tuple[float, float] = (0.0, 0.14),
    dashed: bool = False,
) -> None:
    """An arrow between two points, with a label near its middle."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=11,
            lw=1.1,
            color=SOFT,
            connectionstyle=f"arc3,rad={bend}",
            linestyle="--" if dashed else "-",
        )
    )
    middle = ((start[0] + end[0]) / 2 + offset[0], (start[1] + end[1]) / 2 + offset[1])
    axes.text(*middle, label, ha="center", va="center", fontsize=8, color=SOFT)


def frame(axes: Axes, left: float, bottom: float, width: float, height: float, title: str) -> None:
    """A region with a title in its upper left corner."""
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom), width, height, boxstyle="round,pad=0,rounding_size=0.15", fc="none", ec=SOFT, lw=1
        )
    )
    axes.text(left + 0.15, bottom + height - 0.22, title, fontsize=9, color=SOFT, weight="bold", va="center")


def canvas(width: float, height: float) -> tuple[plt.Figure, Axes]:
    """An empty drawing of ``width`` x ``height`` units."""
    figure, axes = plt.subplots(figsize=(width * 0.78, height * 0.78))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    return figure, axes


def draw_agent() -> plt.Figure:
    """One batch through the trainer and SelfRefineAgent."""
    figure, axes = canvas(15, 8.1)
    frame(axes, 0.2, 0.2, 3.3, 7.7, "trainer")
    frame(axes, 4.9, 0.2, 9.9, 7.7, "SelfRefineAgent.refine_batch")
    first = Box(1.85, 6.6, "first generation\n$y_1 \\sim \\pi(\\cdot\\,|\\,x)$", "trainer")
    reward = Box(1.85, 5.2, "reward functions\n$r_1$, correctness_mask", "trainer")
    grading = Box(1.85, 2.55, "the same\nreward functions", "trainer")
    merge = Box(1.85, 0.95, "merge by the credit\nrefined_result | None", "trainer", width=2.8)
    rows = Box(6.55, 6.6, "rows to refine\n~correctness_mask", "agent")
    critic = Box(6.55, 5.2, "CritiqueAgent\n$x$, $y_k$; no reference", "agent")
    critique = Box(9.95, 5.2, "critique $c_k$\nand its verdict", "sampled")
    refiner = Box(9.95, 3.85, "RefineAgent\n$x$, $y_k$, $c_k$ cut to fit", "agent")
    refined = Box(6.55, 3.85, "refined answer $y_{k+1}$\n$\\sim \\pi(\\cdot\\,|\\,x, y_k, c_k)$", "sampled")
    grade = Box(6.55, 2.55, "Grade\n$r_{k+1}$, correct", "decision")
    ends = Box(9.95, 2.55, "another round?\ngate, stop conditions,\nmax_refine_rounds", "decision", height=1.05)
    history = Box(6.55, 0.95, "History of each row\nattempts, the kept one", "agent")
    report = Box(13.1, 1.6, "console report\nAccuracy@t1, @t2", "output", width=2.6)
    log = Box(13.1, 0.7, "self_refine_log.jsonl\none row a sample", "output", width=2.6)
    note = Box(13.1, 5.2, "green: sampled,\none Sampler call\nfor all rows", "sampled", width=2.2, height=1.1)
    trainer_side = first, reward, grading, merge
    agent_side = rows, critic, critique, refiner, refined, grade, ends, history
    for box in (*trainer_side, *agent_side, report, log, note):
        box.draw(axes)
    arrow(axes, first.side("bottom"), reward.side("top"))
    arrow(axes, reward.side("right", 0.2), rows.side("left", -0.2), "one call", offset=(-0.08, 0.32))
    arrow(axes, rows.side("bottom"), critic.side("top"), "round 1", offset=(-0.45, 0))
    arrow(axes, critic.side("right"), critique.side("left"))
    arrow(axes, critique.side("bottom"), refiner.side("top"))
    arrow(axes, refiner.side("left"), refined.side("right"))
    arrow(axes, refined.side("bottom"), grade.side("top"))
    arrow(axes, grade.side("left", 0.13), grading.side("right", 0.13), "attempts")
    arrow(axes, grading.side("right", -0.13), grade.side("left", -0.13), "rewards", offset=(0.0, -0.17))
    arrow(axes, grade.side("right"), ends.side("left"))
    turn = [ends.side("right"), (11.55, 2.55), (11.55, 6.1), (7.3, 6.1)]
    axes.plot(*zip(*turn, strict=True), color=SOFT, lw=1.1)
    arrow(axes, turn[-1], critic.side("top", 0.75), "yes: round $k+1$", offset=(2.4, 0.4))
    arrow(axes, ends.side("bottom", -0.4), history.side("right", 0.2), "no", offset=(0.15, -0.15))
    arrow(axes, history.side("left"), merge.side("right"), "histories")
    arrow(axes, history.side("right", 0.0), report.side("left"), dashed=True)
    arrow(axes, history.side("right", -0.2), log.side("left"), dashed=True)
    return figure


def draw_samplers() -> plt.Figure:
    """Who asks, who answers, and what goes between."""
    figure, axes = canvas(14, 7.4)
    centre = Box(
        7, 6.4, "refine_rounds  (no input, no output)\none refinement loop a row, in lockstep", "agent", width=4.6
    )
    sync = Box(3.1, 4.75, "run_rounds\nSelfRefineAgent, plain calls", "trainer", width=3.4)
    later = Box(10.9, 4.75, "arun_rounds\nnative RefineStage, coroutines", "trainer", width=3.4)
    engine = Box(2.0, 2.75, "EngineSampler\nids, log-probs, own streams", "agent", width=3.1)
    http = Box(5.5, 2.75, "OpenAISampler\ntexts, counts, log-probs", "agent", width=3.1)
    trl = Box(9.0, 2.75, "TrlSampler\nTRL's rows, image fields", "agent", width=3.1)
    runner = Box(12.3, 2.75, "EpisodeRunner\nepisodes, judge, limits", "agent", width=2.9)
    sources = [
        Box(2.0, 0.75, "LocalEngine\nlive policy, shared prefill", "sampled", width=3.1),
        Box(5.5, 0.75, "POST /v1/chat/completions\nour proxy, vLLM, a service", "sampled", width=3.1),
        Box(9.0, 0.75, "GRPOTrainer generation\nHF, vLLM, every rank", "sampled", width=3.1),
        Box(12.3, 0.75, "LocalEngine\nworkflows and tools", "sampled", width=2.9),
    ]
    doors = [engine, http, trl, runner]
    for box in (centre, sync, later, *doors, *sources):
        box.draw(axes)
    for driver, shift in ((sync, -1.6), (later, 1.6)):
        inner = 0.18 if shift < 0 else -0.18
        arrow(axes, centre.side("bottom", shift), driver.side("top", inner), "SampleBatch\nGradeBatch",
              offset=(-0.95 if shift < 0 else 0.95, 0.12))  # fmt: skip
        arrow(axes, driver.side("top", inner * 5), centre.side("bottom", shift * 0.7), "Sample, Grade",
              offset=(0.95 if shift < 0 else -0.95, -0.12))  # fmt: skip
    for door in (engine, http, trl):
        arrow(axes, sync.side("bottom", (door.x - sync.x) * 0.12), door.side("top"))
    axes.text(3.1, 3.75, "sample(requests) -> list[Sample]", ha="center", fontsize=8, color=INK,
              bbox={"fc": "white", "ec": "none", "pad": 1.5})  # fmt: skip
    arrow(
        axes,
        later.side("bottom", 0.6),
        runner.side("top"),
        "critiques and refined\nanswers are episodes",
        offset=(1.15, 0.2),
    )
    for door, source in zip(doors, sources, strict=True):
        arrow(axes, door.side("bottom"), source.side("top"))
    return figure


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, figure in (("self_refine_flow", draw_agent()), ("sampler_flow", draw_samplers())):
        path = IMAGES / f"{name}.png"
        figure.savefig(path, dpi=130, bbox_inches="tight", facecolor="white")
        print(path)


if __name__ == "__main__":
    main()
