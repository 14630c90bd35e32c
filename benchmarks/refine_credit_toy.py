"""How a refined sample is credited decides what is learnt: two tabular toys, trained with the shipped credits.

The first has an answer, an unreliable look at it, and the choice to keep or revise; the second asks whether a
refinement that is trained under the original prompt can lift an answer that the policy hardly ever gives.
Everything is exact but the sampling; every run of a scheme is a task of its own in one call of the credit function.

    python benchmarks/refine_credit_toy.py
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from astune.files import atomic_path, atomic_write
from astune.refine.training.credit import Chain, Credit, Rows, expert, joint, replace, rows_to_refine
from astune.refine.training.expert_loss import ExpertWeight, expert_factor
from astune.report.environment import environment

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results" / "refine_credit_toy.json"
FIGURE = ROOT / "docs" / "images" / "refine_credit.png"
PAGE = ROOT / "docs" / "refine_credit.md"

RUNS, GROUP, STEPS, EVERY, LEARNING_RATE = 16, 8, 3000, 50, 0.1
#: y1 is correct, wrong but fixable, or wrong for good; REVISED is the chance that revising it gives a correct answer.
REWARD, REVISED, START = np.array([1.0, 0.0, 0.0]), np.array([0.2, 0.9, 0.0]), np.array([0.0, 0.5, 0.5])
#: The look says "bad" of a wrong answer with this probability, and of a correct one with the rest.
LOOK = 0.75
SAYS_BAD = np.where(REWARD == 1, 1 - LOOK, LOOK)

Array = NDArray[Any]


@dataclass(frozen=True)
class Scheme:
    """A way to credit: which rows are refined, and credits of their chains.

    ``shipped`` names what is used of the package; empty for ways that it does not offer. ``sample_again`` draws
    the rows that are not refined a second time, as a full-batch expansion of the refine prompts does.
    """

    name: str
    credit: Callable[[Sequence[Chain]], list[Credit]]
    rows: Rows
    shipped: str
    learning_rate: float = LEARNING_RATE
    sample_again: bool = False


def one_group(chains: Sequence[Chain]) -> list[Credit]:
    """Last attempts of both turns compared with each other, as a trainer does that only swaps refined samples in."""
    mixed = joint([Chain(chain.task, chain.rewards[-1:]) for chain in chains])
    return [credit for c in mixed if (credit := _of_last(c, chains[c.chain]))]


def whole_trajectory(chains: Sequence[Chain], alpha: float = 10.0) -> list[Credit]:
    """Every segment credited with r_1 + r_2 + alpha (r_2 - r_1): ``joint`` refuses this (gamma 1, alpha 10)."""
    totals = [Chain(c.task, (_reward(c, 0) + _reward(c, 1) + alpha * (_reward(c, 1) - _reward(c, 0)),)) for c in chains]
    both: list[Credit] = []
    for c in joint(totals):
        both += [c, Credit(c.chain, "refine", 2, c.advantage)]
    return both


def _of_last(credit: Credit, chain: Chain) -> Credit:
    turn = len(chain.rewards)
    return Credit(credit.chain, "answer" if turn == 1 else "refine", turn, credit.advantage)


def _reward(chain: Chain, turn: int) -> float:
    reward = chain.rewards[turn]
    assert reward is not None
    return reward


SCHEMES = [
    Scheme("wrong only, swapped in, one group, correct ones sampled again", one_group, "wrong", "", sample_again=True),
    Scheme("wrong only, swapped in, one group", one_group, "wrong", ""),
    Scheme("wrong only, `replace`", replace, "wrong", "replace"),
    Scheme("first answers + wrong only, `joint`", joint, "wrong", "joint, rows wrong"),
    Scheme("wrong and half of the correct, `joint`", joint, "mixture", "joint, rows mixture"),
    Scheme("all refined, `joint`", joint, "all", "joint"),
    Scheme("all refined, `joint`, alpha 1", lambda chains: joint(chains, alpha=1.0), "all", "joint"),
    Scheme("all refined, whole trajectory, alpha 10", whole_trajectory, "all", "", learning_rate=0.02),
]


def softmax(logits: Array) -> Array:
    weights: Array = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)  # type: ignore[no-any-return]


def _sample(generator: np.random.Generator, p: Array) -> Array:
    """One outcome a row of probabilities ``[rows, outcomes]``."""
    drawn: Array = (generator.random(len(p))[:, None] > p.cumsum(-1)[:, :-1]).sum(-1)
    return drawn


def accuracies(answer: Array, revise: Array) -> dict[str, Array]:
    """Exact accuracies ``[runs]`` of policies with logits ``answer [runs, 3]`` and ``revise [runs, look, 2]``."""
    p_answer, p_revise = softmax(answer), softmax(revise)[..., 1]
    revised = (1 - SAYS_BAD) * p_revise[:, :1] + SAYS_BAD * p_revise[:, 1:]
    after = revised * REVISED + (1 - revised) * REWARD
    return {
        "t1": p_answer[:, 0],
        "t2_ungated": (p_answer * after).sum(-1),
        "t2_oracle": (p_answer * np.maximum(after, REWARD)).sum(-1),
    }


def train(scheme: Scheme, steps: int = STEPS, runs: int = RUNS, seed: int = 0) -> dict[str, list[list[float]]]:
    """Accuracies of each run, every ``EVERY`` steps from 0 on, as ``[points][runs]``."""
    generator = np.random.default_rng(seed)
    task = np.repeat(np.arange(runs), GROUP)
    answer, revise = np.tile(START, (runs, 1)), np.zeros((runs, 2, 2))
    graded = [[[Chain(run, (float(a), float(b))) for b in (0, 1)] for a in (0, 1)] for run in range(runs)]
    left = [[Chain(run, (float(a),)) for a in (0, 1)] for run in range(runs)]
    curves: dict[str, list[list[float]]] = {name: [] for name in accuracies(answer, revise)}
    for step in range(steps + 1):
        if step % EVERY == 0:
            for name, values in accuracies(answer, revise).items():
                curves[name].append([round(float(value), 6) for value in values])
        p_answer, p_revise = softmax(answer), softmax(revise)
        y1 = _sample(generator, p_answer[task])
        look = (generator.random(task.size) < SAYS_BAD[y1]).astype(int)
        y2 = (generator.random(task.size) < p_revise[task, look, 1]).astype(int)
        r1 = REWARD[y1]
        r2 = np.where(y2 == 1, generator.random(task.size) < REVISED[y1], r1)
        refined = np.zeros(task.size, dtype=bool)
        refined[rows_to_refine([bool(r) for r in r1], scheme.rows, seed=step)] = True
        if scheme.sample_again:
            y1 = np.where(refined, y1, _sample(generator, p_answer[task]))
            r1 = REWARD[y1]
        chains = [
            graded[run][int(a)][int(b)] if again else left[run][int(a)]
            for run, a, b, again in zip(task.tolist(), r1, r2, refined, strict=True)
        ]
        advantage = np.zeros((2, task.size))
        for credit in scheme.credit(chains):
            advantage[int(credit.role == "refine"), credit.chain] = credit.advantage
        rate = scheme.learning_rate / GROUP
        np.add.at(answer, task, rate * advantage[0][:, None] * (np.eye(3)[y1] - p_answer[task]))
        np.add.at(revise, (task, look), rate * advantage[1][:, None] * (np.eye(2)[y2] - p_revise[task, look]))
    return curves


# --- the expert toy ---

ACTIONS, EXPERT_STEPS, EXPERT_RATE, FOUND = 16, 400, 0.5, 0.5
#: Probability of the only correct action at the start.
FIRST_CHANCE = (1e-1, 1e-2, 1e-3, 1e-4)
EXPERTS: tuple[ExpertWeight | None, ...] = (None, "tis", "shaped", "logp")


def train_expert(kind: ExpertWeight | None, chance: float, runs: int = RUNS, seed: int = 0) -> list[list[float]]:
    """Probability of the correct action before each step, ``[steps][runs]``; refining finds it half the time."""
    generator = np.random.default_rng(seed)
    task = np.repeat(np.arange(runs), GROUP)
    logits = np.zeros((runs, ACTIONS))
    logits[:, 0] = np.log(chance * (ACTIONS - 1) / (1 - chance))
    curve: list[list[float]] = []
    for _ in range(EXPERT_STEPS):
        p = softmax(logits)
        curve.append([round(float(value), 6) for value in p[:, 0]])
        y = _sample(generator, p[task])
        corrected = generator.random(task.size) < FOUND + (1 - FOUND) * p[task, 0]
        chains = [
            Chain(run, (1.0,)) if action == 0 else Chain(run, (0.0, float(good)))
            for run, action, good in zip(task.tolist(), y, corrected, strict=True)
        ]
        step = np.zeros_like(logits)
        factor = None if kind is None else _factor(kind, p[:, 0])
        for credit in expert(chains):
            run = task[credit.chain]
            if credit.role == "answer":
                step[run] += credit.advantage * (np.eye(ACTIONS)[y[credit.chain]] - p[run])
            elif factor is not None:
                step[run] += credit.advantage * factor[run] * (np.eye(ACTIONS)[0] - p[run])
        logits += EXPERT_RATE / GROUP * step
    return curve


def _factor(kind: ExpertWeight, p: Array) -> Array:
    """The expert's factor on grad log p for each run; mu is the probability of finding the action by refining."""
    mu = torch.tensor(FOUND + (1 - FOUND) * p).log()
    return expert_factor(torch.tensor(p).log(), kind, mu).numpy()


# --- results ---


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean over runs and its percentile bootstrap interval."""
    data = np.asarray(values)
    resampled = np.random.default_rng(0).choice(data, (4000, data.size)).mean(-1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {"mean": round(float(data.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def measure() -> dict[str, Any]:
    schemes, experts = [], []
    for scheme in SCHEMES:
        curves = train(scheme)
        end = {name: interval(curve[-1]) for name, curve in curves.items()}
        means = {name: [round(float(np.mean(point)), 5) for point in curve] for name, curve in curves.items()}
        shape = {"name": scheme.name, "shipped": scheme.shipped, "learning_rate": scheme.learning_rate}
        schemes.append(shape | {"end": end, "curves": means})
        print(scheme.name, {name: value["mean"] for name, value in end.items()}, flush=True)
    for chance in FIRST_CHANCE:
        for kind in EXPERTS:
            curve = np.array(train_expert(kind, chance))
            above = [int(run.argmax()) if run.any() else None for run in (curve > 0.5).T]
            mean = [round(float(value), 5) for value in curve.mean(-1)[::5]]
            experts.append(
                {
                    "chance": chance,
                    "kind": kind or "none",
                    "end": interval(curve[-1]),
                    "passed_half": above,
                    "curve": mean,
                }
            )
            print(chance, kind, experts[-1]["end"], flush=True)
    settings = {"runs": RUNS, "group": GROUP, "steps": STEPS, "every": EVERY, "expert_steps": EXPERT_STEPS}
    return {"environment": environment(), "settings": settings, "schemes": schemes, "experts": experts}


def scheme_table(document: dict[str, Any]) -> str:
    """The table of schemes in Markdown, means over runs with 95 % intervals."""
    lines = [
        "| scheme | Acc@t1 | Acc@t2, every answer refined | Acc@t2, only incorrect ones refined |",
        "|---|---:|---:|---:|",
    ]
    for scheme in document["schemes"]:
        cells = [_cell(scheme["end"][name]) for name in ("t1", "t2_ungated", "t2_oracle")]
        lines.append(f"| {scheme['name']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def expert_table(document: dict[str, Any]) -> str:
    """Probability of the correct answer at the end, and the median step at which it passed one half."""
    names = {"none": "no expert", "tis": "`tis`", "shaped": "`shaped`", "logp": "`logp`"}
    lines = ["| at the start | " + " | ".join(names.values()) + " |", "|---:|" + "---:|" * len(names)]
    for chance in dict.fromkeys(row["chance"] for row in document["experts"]):
        rows = {row["kind"]: row for row in document["experts"] if row["chance"] == chance}
        lines.append(f"| {chance:g} | " + " | ".join(_expert_cell(rows[kind]) for kind in names) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _expert_cell(row: dict[str, Any]) -> str:
    passed = sorted(step for step in row["passed_half"] if step is not None)
    runs = len(row["passed_half"])
    if not passed:
        return f"{row['end']['mean']:.3f}, never"
    others = "" if len(passed) == runs else f" in {len(passed)} of {runs} runs"
    return f"{row['end']['mean']:.3f}, step {passed[len(passed) // 2]}{others}"


def write_page(document: dict[str, Any]) -> None:
    """Puts the tables between their markers in the page."""
    page = PAGE.read_text(encoding="utf-8")
    for name, table in (("schemes", scheme_table(document)), ("experts", expert_table(document))):
        block = f"<!-- {name}: benchmarks/refine_credit_toy.py -->\n\n{table}\n<!-- end -->"
        pattern = rf"<!-- {name}: .*?<!-- end -->"
        page = re.sub(pattern, lambda _, block=block: block, page, flags=re.DOTALL)  # type: ignore[misc]
    atomic_write(PAGE, page)


_COLOURS = {0: "#b3261e", 2: "#e08a00", 3: "#a03a8c", 4: "#0c7a86", 5: "#3451c7", 7: "#1d1c1a"}
#: Lines that coincide are drawn on top of each other, the widest first.
_WIDTHS = {3: 4.8, 4: 3.0, 5: 1.5}
_EXPERT_COLOURS = {"none": "#a49e91", "tis": "#e08a00", "shaped": "#a03a8c", "logp": "#3451c7"}
_INK, _MUTED, _GRID = "#1d1c1a", "#6f6b63", "#e4e1d9"


def draw(document: dict[str, Any], file: Path = FIGURE) -> None:
    """Accuracies over training, one line a scheme, and the expert toy."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    panels = {
        "t1": "First answers correct (Acc@t1)",
        "t2_oracle": "After refining only the incorrect ones: hides what is lost",
        "t2_ungated": "After refining every answer (ungated Acc@t2)",
    }
    for panel, (name, title) in zip((axes[0, 0], axes[0, 1], axes[1, 0]), panels.items(), strict=True):
        for number, colour in _COLOURS.items():
            scheme = document["schemes"][number]
            curve = scheme["curves"][name]
            steps = [point * document["settings"]["every"] for point in range(len(curve))]
            ours = bool(scheme["shipped"])
            width = _WIDTHS.get(number, 1.8)
            panel.plot(
                steps[1:], curve[1:], color=colour, linewidth=width, linestyle="-" if ours else "--",
                label=scheme["name"].replace("`", ""), zorder=3 if ours else 2,
            )  # fmt: skip
        panel.set_xscale("log")
        _finish(panel, title, "training step")
        panel.set_xticks([50, 100, 300, 1000, 3000], ["50", "100", "300", "1000", "3000"])
        panel.minorticks_off()
    _draw_experts(axes[1, 1], document)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9.5, labelcolor=_INK)
    figure.suptitle(
        "Credit of refined samples, tabular toy (dashed: not offered)", x=0.01, ha="left", fontweight="bold", color=_INK
    )
    with atomic_path(file) as path:
        figure.savefig(path, dpi=150, format="png", metadata={"Software": None})


def _draw_experts(panel: Any, document: dict[str, Any]) -> None:
    """Two starting probabilities: one at which every kind gets there, one at which only ``logp`` does."""
    for row in document["experts"]:
        if row["chance"] not in FIRST_CHANCE[1:3]:
            continue
        rare = row["chance"] == FIRST_CHANCE[2]
        label = None if rare else "no expert" if row["kind"] == "none" else row["kind"]
        steps = [5 * point for point in range(len(row["curve"]))]
        colour, style = _EXPERT_COLOURS[row["kind"]], ":" if rare else "-"
        panel.plot(steps, row["curve"], color=colour, linewidth=2.4 if rare else 2, linestyle=style, label=label)
    panel.annotate("dotted: p = 0.001", (395, 0.04), color=_INK, fontsize=9.5, ha="right")
    panel.legend(frameon=False, fontsize=9.5, loc="center right", labelcolor=_INK)
    _finish(panel, f"Expert credit, an answer with p = {FIRST_CHANCE[1]:g} at the start", "training step")


def _finish(panel: Any, title: str, label: str) -> None:
    panel.set_title(title, loc="left", fontsize=10.5, color=_INK)
    panel.set_xlabel(label, fontsize=9, color=_MUTED)
    panel.set_ylim(-0.02, 1.03)
    panel.grid(axis="y", color=_GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(colors=_MUTED, labelsize=8.5, length=0, which="both")
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(_GRID)


def main() -> None:
    """Measures, and writes the result, the figure and the page's tables; ``--draw`` only those from the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="figure and tables from the result that is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.draw:
        atomic_write(RESULT, json.dumps(measure(), indent=1))
    document = json.loads(RESULT.read_text(encoding="utf-8"))
    draw(document)
    write_page(document)


if __name__ == "__main__":
    main()
