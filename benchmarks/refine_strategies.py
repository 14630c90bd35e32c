"""Strategies of refinement at equal token budgets, on held-out problems, with intervals; and the winner's curse.

python benchmarks/refine_strategies.py            # the bundled model; some minutes on two cores

Every strategy runs each problem up to the largest budget. Its answer at a smaller budget is the one that it would have
given had it been stopped there: only calls that were finished within the budget count, and a strategy that has no
answer by then is wrong. Budgets count sampled tokens, critiques included; what prompts add is reported beside them.
The first attempt of a problem is the same sample for all strategies.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from astune.errors import ContextOverflow
from astune.files import atomic_path, atomic_write
from astune.models.load import resolve_model_path
from astune.refine.loop import arefine
from astune.refine.loop_state import AllInvalidError, Round, Score, State, Usage
from astune.refine.select import Selector, keep_best
from astune.refine.stop import Rounds, Tokens
from astune.refine.strategies import STRATEGIES, Setting, make_strategy
from astune.refine.strategies.common import VERDICT_SCORES, masks
from astune.refine.transport import SampledModel, local_model
from astune.report.environment import environment
from astune.report.statistics import paired_difference, wilson_interval
from astune.task_judge.math_answer_as_judge import answers_match
from astune.task_reader.nano_gsm import NanoProblem, generate

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results" / "refine_strategies.json"
FIGURE = ROOT / "docs" / "images" / "refine_strategies.png"
#: The bundled policy of the refine stage, and the problems that it is often wrong about at first.
MODEL = ROOT / "astune" / "models" / "nano_refine"
FAMILIES, LARGEST = ("running_week", "bus_stops", "egg_sales", "profit"), 40
PLAIN = "plain"
BUDGETS = (32, 64, 96, 128, 192, 256, 384)
#: Attempts among which the noisy scorer chooses, and critiques that score its choice anew.
CROWDS, RESCORES = (1, 2, 4, 8), 4


@dataclass(frozen=True, slots=True)
class Run:
    """One strategy on one problem: what it had at each budget."""

    right: dict[int, bool]
    used: dict[int, Usage]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Attempts at one problem: the noisy score of each, the independent one, and whether it is right."""

    noisy: list[float]
    fresh: list[float]
    right: list[bool]


# --- strategies -------------------------------------------------------------------------------------------------


def is_right(text: str, problem: NanoProblem) -> bool:
    return answers_match(text, str(problem.answer)) is True


def at_budget(rounds: Sequence[Round[str, str]], budget: int) -> tuple[State[str, str], Usage]:
    """The loop's state had it been stopped at ``budget`` sampled tokens, and what was used until then."""
    state: State[str, str] = State()
    used = Usage()
    for done in rounds:
        scored = replace_reflection(done)
        if (used + scored.usage).tokens > budget:
            break
        used += scored.usage
        state.rounds.append(scored)
        if scored.best and (state.best is None or scored.best.score.value > state.best.score.value):
            state.best = scored.best
        if done.reflection is not None:
            if (used + done.reflection.usage).tokens > budget:
                break
            used += done.reflection.usage
    return state, used


def replace_reflection(done: Round[str, str]) -> Round[str, str]:
    """The round up to where its attempts are scored."""
    return replace(done, attempts=list(done.attempts), reflection=None)


def outcome(rounds: Sequence[Round[str, str]], select: Selector, problem: NanoProblem, budgets: Sequence[int]) -> Run:
    right, used = {}, {}
    for budget in budgets:
        state, used[budget] = at_budget(rounds, budget)
        right[budget] = state.best is not None and is_right(select(state).candidate, problem)
    return Run(right, used)


async def run_one(name: str, problem: NanoProblem, setting: Setting, budgets: Sequence[int]) -> Run:
    """Plain sampling is the first attempt of any strategy, and nothing else."""
    strategy = make_strategy("self_consistency" if name == PLAIN else name, setting)
    rounds: list[Round[str, str]] = []

    def watch(_: str, state: State[str, str]) -> None:
        rounds[:] = state.rounds

    with suppress(AllInvalidError, ContextOverflow):  # no first answer: wrong at every budget
        await strategy.run(watch=watch)
    return outcome(rounds, strategy.select, problem, budgets)


def summarise(runs: dict[str, list[Run]], budgets: Sequence[int]) -> dict[str, Any]:
    """Accuracy with its Wilson interval, the paired difference to plain sampling, and the mean use, by budget."""
    report: dict[str, Any] = {}
    for name, mine in runs.items():
        report[name] = {}
        for budget in budgets:
            right = [run.right[budget] for run in mine]
            plain = [run.right[budget] for run in runs[PLAIN]]
            against = paired_difference(plain, right)
            report[name][str(budget)] = {
                "accuracy": round(statistics.fmean(right), 4),
                "ci95": [round(bound, 4) for bound in wilson_interval(sum(right), len(right))],
                "minus_plain": round(against.difference, 4),
                "minus_plain_ci95": [round(bound, 4) for bound in against.ci95],
                "p_value": round(against.p_value, 5),
                "tokens": round(statistics.fmean(run.used[budget].tokens for run in mine), 1),
                "prompt_tokens": round(statistics.fmean(run.used[budget].prompt_tokens for run in mine), 1),
            }
    return report


# --- the winner's curse -----------------------------------------------------------------------------------------


async def crowd(setting: Setting, problem: NanoProblem) -> Crowd:
    """Independent attempts, each scored by one sampled critique, then all of them by fresh ones."""

    async def evaluate(state: State[str, str], candidates: list[str]) -> list[Score]:
        return await verdicts(setting, candidates, [len(state.rounds)])

    async def rescore(_: State[str, str], candidates: list[str]) -> list[Score]:
        return await verdicts(setting, candidates, range(1000, 1000 + RESCORES))

    result = await arefine(
        setting.answer, evaluate, stop=Rounds(max(CROWDS)), rescore=rescore, select=keep_best, failures=()
    )
    valid = [attempt for attempt in result.state.attempts if attempt.score.valid]
    return Crowd(
        [attempt.score.value for attempt in valid],
        [score.value for score in result.rescored],
        [is_right(attempt.candidate, problem) for attempt in valid],
    )


async def verdicts(setting: Setting, candidates: Sequence[str], draws: Sequence[int]) -> list[Score]:
    """The mean verdict of several critiques of each candidate. Equal draws of other candidates share nothing."""
    scores = []
    for place, (text, masked) in enumerate(zip(candidates, masks(candidates), strict=True)):
        if masked.valid:
            asked = [setting.critique(text, draw + 100_000 * place) for draw in draws]
            given = [VERDICT_SCORES[verdict] for _, verdict in await asyncio.gather(*asked)]
            scores.append(Score(statistics.fmean(given)))
        else:
            scores.append(masked)
    return scores


def curse(crowds: Sequence[Crowd]) -> dict[str, Any]:
    """For each size of crowd: the winner's noisy score, its fresh score, and what winners are worth."""
    report: dict[str, Any] = {}
    for size in CROWDS:
        seen = [one for one in crowds if one.noisy]
        noisy = [winner(one.noisy[:size]) for one in seen]
        fresh = [winner(one.fresh[:size]) for one in seen]
        won = [one.noisy[best] for one, best in zip(seen, noisy, strict=True)]
        anew = [one.fresh[best] for one, best in zip(seen, noisy, strict=True)]
        gaps = [before - after for before, after in zip(won, anew, strict=True)]
        right = [one.right[best] for one, best in zip(seen, noisy, strict=True)]
        rescored = [one.right[best] for one, best in zip(seen, fresh, strict=True)]
        report[str(size)] = {
            "score_that_won": round(statistics.fmean(won), 4),
            "scored_anew": round(statistics.fmean(anew), 4),
            "curse": round(statistics.fmean(gaps), 4),
            "curse_ci95": bootstrap(gaps),
            "accuracy": round(statistics.fmean(right), 4),
            "accuracy_ci95": [round(bound, 4) for bound in wilson_interval(sum(right), len(right))],
            "accuracy_chosen_by_fresh_scores": round(statistics.fmean(rescored), 4),
        }
    return report


def winner(scores: Sequence[float]) -> int:
    return scores.index(max(scores))


def bootstrap(values: Sequence[float], resamples: int = 2000) -> list[float]:
    """95 % percentile interval of the mean."""
    rng = random.Random(0)
    means = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(resamples))
    return [round(means[int(share * (resamples - 1))], 4) for share in (0.025, 0.975)]


# --- the whole --------------------------------------------------------------------------------------------------


def greedy(model: SampledModel) -> SampledModel:
    """The same weights, without chance: a judge where there is no second model."""
    from astune.refine.samplers import EngineSampler

    sampler = model.sampler
    assert isinstance(sampler, EngineSampler)
    sampling = replace(sampler.sampling, temperature=0.0)
    return SampledModel(f"{Path(model.name).name} (greedy)", EngineSampler(sampler.engine, sampler.renderer, sampling))


async def measure(options: argparse.Namespace, model: SampledModel, judge: SampledModel) -> dict[str, Any]:
    largest, names = max(options.budgets), [PLAIN, *options.strategies]
    problems = [
        problem
        for seed in range(options.seeds)
        for problem in generate(options.problems, options.seed + seed, "test", options.families, options.largest)
    ]

    def setting(row: int, rounds: int) -> Setting:
        prompt = [{"role": "user", "content": problems[row].question}]
        return Setting(model.for_row(row), prompt, rounds, judge=judge.for_row(row), budget=Tokens(largest))

    runs: dict[str, list[Run]] = {}
    seconds: dict[str, float] = {}
    for name in names:
        start = time.perf_counter()
        rounds = 1 if name == PLAIN else options.rounds
        asked = [
            run_one(name, problem, named(setting(row, rounds), name), options.budgets)
            for row, problem in enumerate(problems)
        ]
        runs[name] = list(await asyncio.gather(*asked))
        seconds[name] = round(time.perf_counter() - start, 1)
        right = sum(run.right[largest] for run in runs[name])
        print(f"{name:24s} {right / len(problems):.3f} at {largest} tokens, {seconds[name]:.0f} s", flush=True)
    few = range(min(options.crowds, len(problems)))
    crowds = await asyncio.gather(*(crowd(setting(row, 1), problems[row]) for row in few))
    return {
        "problems": len(problems),
        "strategies": summarise(runs, options.budgets),
        "seconds": seconds,
        "winners_curse": curse(crowds),
        "crowds": len(crowds),
    }


def named(setting: Setting, name: str) -> Setting:
    """Only the independent scorer has the judge: best-of-N and Reflexion trust the model's own critic."""
    return setting if name == "independent_scorer" else replace(setting, judge=None)


def draw(document: dict[str, Any], path: Path) -> None:
    """Accuracy against tokens with intervals, and what a winning score is worth."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for place, (name, by_budget) in enumerate(document["strategies"].items()):
        xs = [int(budget) + 1.2 * (place - 3) for budget in by_budget]  # side by side, so that bars can be told apart
        ys = [row["accuracy"] for row in by_budget.values()]
        lows, highs = zip(*(row["ci95"] for row in by_budget.values()), strict=True)
        bars = [
            [y - low for y, low in zip(ys, lows, strict=True)],
            [high - y for y, high in zip(ys, highs, strict=True)],
        ]
        style: dict[str, Any] = {"color": "black", "linestyle": "--"} if name == PLAIN else {}
        left.errorbar(xs, ys, bars, label=name, marker="o", markersize=3, linewidth=1.4, elinewidth=0.6, **style)
    left.set(xlabel="budget: sampled tokens a problem", ylabel="accuracy, held-out problems (95 % intervals)")
    left.legend(fontsize=8, frameon=False, ncol=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    sizes = list(document["winners_curse"])
    for key, label in (("score_that_won", "score that won"), ("scored_anew", "the same attempt, scored anew"),
                       ("accuracy", "share that is right")):  # fmt: skip
        right.plot(sizes, [document["winners_curse"][size][key] for size in sizes], marker="o", label=label)
    right.set(xlabel="attempts to choose from", ylabel="mean over problems", ylim=(0, 1.02))
    right.set_title("The winner's curse of a noisy critic", fontsize=10)
    right.legend(fontsize=8, frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png", metadata={"Software": None})


def table(document: dict[str, Any]) -> str:
    """The largest budget as Markdown, for the documentation."""
    lines = ["| strategy | accuracy | minus plain (95 %) | sampled | read |", "|---|---|---|---|---|"]
    for name, by_budget in document["strategies"].items():
        row = by_budget[max(by_budget, key=int)]
        accuracy = f"{row['accuracy']:.3f} [{row['ci95'][0]:.3f}, {row['ci95'][1]:.3f}]"
        low, high = row["minus_plain_ci95"]
        gain = f"{row['minus_plain']:+.3f} [{low:+.3f}, {high:+.3f}]"
        lines.append(f"| {name} | {accuracy} | {gain} | {row['tokens']:.0f} | {row['prompt_tokens']:.0f} |")
    return "\n".join(lines)


def weights(model: str) -> list[str]:
    """Which weights were measured, whatever the folder holds later."""
    files = sorted(resolve_model_path(model).glob("*.safetensors"))
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(MODEL), help="model folder")
    parser.add_argument("--judge", help="model folder of the independent scorer; default: the same weights, greedy")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--problems", type=int, default=100, help="held-out problems a seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=20_263, help="the first one")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--largest", type=int, default=LARGEST, help="largest number in a problem")
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS), help="sampled tokens a problem")
    parser.add_argument("--rounds", type=int, default=24, help="most attempts")
    parser.add_argument("--crowds", type=int, default=150, help="problems on which the winner's curse is measured")
    parser.add_argument("--max-tokens", type=int, default=128, help="of one reply")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    return parser.parse_args()


def main() -> None:
    """Runs everything and writes the result and the figure."""
    options = parse()
    sampling = {"temperature": options.temperature, "max_tokens": options.max_tokens, "seed": options.seed}
    model = local_model(options.model, **sampling)
    judge = greedy(model) if options.judge is None else local_model(options.judge, **sampling)
    measured = asyncio.run(measure(options, model, judge))
    about = {
        name: value for name, value in vars(options).items() if name not in ("out", "figure", "model", "judge")
    } | {"model": Path(options.model).name, "judge": judge.name if options.judge is None else Path(options.judge).name}
    document = {"environment": environment(), "options": about, "weights_sha256": weights(options.model), **measured}
    atomic_write(options.out, json.dumps(document, indent=1) + "\n")
    draw(document, options.figure)
    print(table(document))


if __name__ == "__main__":
    main()
