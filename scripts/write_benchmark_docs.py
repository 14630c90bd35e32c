"""Writes docs/benchmarks.md and its figure from the JSON in benchmarks/results.

python scripts/write_benchmark_docs.py
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
FIGURE = ROOT / "docs" / "training_step.png"
AGENTS_FIGURE = ROOT / "docs" / "images" / "agents.png"
REFINE_FIGURE = ROOT / "docs" / "images" / "refine_training.png"

#: Runs with refinement, as they are called on the page.
VARIANTS = {"joint": "joint, with critiques", "joint_no_critique": "joint, without critiques"}

INTRODUCTION = """\
# Benchmarks

Generated from `benchmarks/results/*.json` by `python scripts/write_benchmark_docs.py`. Every number is from a script
in `benchmarks/` that runs on any machine; ratios are between contenders of one run. Absolute times are those of one
noisy two-core machine and no promise.
"""


def load(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose first column is text."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def machine(document: dict[str, Any]) -> str:
    seen = document["environment"]
    load_average = document.get("load_average")
    busy = f", load average at the end {load_average[0]:.1f}" if load_average else ""
    return f"Measured on {seen['processor']}, {seen['cores']} cores, torch {seen['torch']}{busy}.\n"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def main_job() -> str:
    document = load("main_job")
    rows = [
        [
            str(run["seed"]),
            percent(run["success_before"]),
            f"{percent(run['success_after'])} [{100 * run['ci95_after'][0]:.1f}, {100 * run['ci95_after'][1]:.1f}]",
            percent(run["greedy_before"]),
            percent(run["greedy_after"]),
            *(percent(run["habits_after"][name]) for name in ("no_print", "premature_answer", "malformed_call")),
            f"{run['train_seconds']:.0f} s",
            f"{run['peak_rss_bytes'] / 2**30:.2f} GiB",
        ]
        for run in document["runs"]
    ]
    header = ["seed", "sampled before", "sampled after [95 %]", "greedy before", "greedy after"]
    header += ["no print", "premature", "malformed", "training", "peak memory"]
    first = document["runs"][0]
    return (
        "## The main job\n\n`python benchmarks/main_job.py`: the command behind `make train` under three seeds, "
        f"{first['steps']} steps, {first['n_heldout']} held-out problems. The habits are those after training.\n\n"
        + table(header, rows)
        + "\n"
        + machine(document)
    )


def training_step() -> str:
    document = load("training_step")
    names = {"single": "one turn", "agent": "multi-turn tool agent"}
    rows = []
    for result in document["results"]:
        seconds = {name: statistics.median(values) for name, values in result["median_step_seconds"].items()}
        low, high = result["speedup_range"]
        rewards = {
            name: f"{statistics.fmean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
            for name, values in result["reward_of_last_10_steps"].items()
        }
        rows.append(
            [
                f"{names[result['task']]}, {result['steps']} steps",
                f"{seconds['trl']:.2f} s",
                f"{seconds['astune']:.2f} s",
                f"**{result['speedup_median']:.1f}** ({low:.1f} to {high:.1f})",
                rewards["trl"],
                rewards["astune"],
            ]
        )
    header = ["job", "TRL, a step", "astune, a step", "times faster", "TRL, last 10 rewards", "astune, last 10 rewards"]
    draw(document)
    return (
        "## A training step against TRL\n\n`python benchmarks/training_step.py`: GRPO on the bundled model, "
        "batch of 8 prompts x 8 samples, same problems, reward, learning rate and "
        "optimiser, runs alternating. Medians over steps, then over seeds; in brackets the range over seeds.\n\n"
        + table(header, rows)
        + "\n![Reward of both trainers, one line a seed](training_step.png)\n\n"
        "What limits each: TRL pads, prefills every repeated prompt, waits for the slowest row of a turn, runs "
        "synchronous tools one after another and trains on groups whose rewards are equal. Ours is bound by small "
        "matrix products: the decoding steps of the longest completion on one core, the other being left to the tools, "
        "then the backward pass in float32. Goals were 3 and 5 times.\n\n" + machine(document)
    )


def draw(document: dict[str, Any]) -> None:
    """Reward curves of both trainers, one line a seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    results = document["results"]
    figure, axes = pyplot.subplots(1, len(results), figsize=(5 * len(results), 3.2), sharey=True, squeeze=False)
    for axis, result in zip(axes[0], results, strict=True):
        for name, colour in (("trl", "tab:orange"), ("astune", "tab:blue")):
            for seed, run in enumerate(result["runs"][name]):
                reward = smooth(run["reward"])
                axis.plot(range(1, len(reward) + 1), reward, color=colour, alpha=0.8, label=name if seed == 0 else None)
        axis.set_title({"single": "one turn", "agent": "multi-turn tool agent"}[result["task"]])
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("mean reward (trailing mean of 5)")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=120, metadata={"Software": None})


def smooth(values: list[float], window: int = 5) -> list[float]:
    return [statistics.fmean(values[max(0, n - window + 1) : n + 1]) for n in range(len(values))]


def tool_call() -> str:
    document = load("tool_call")
    return (
        "## A sandboxed tool call\n\n`python benchmarks/tool_call.py`; the table is in [sandbox.md](sandbox.md).\n\n"
        + machine(document)
        if "environment" in document
        else "## A sandboxed tool call\n\n`python benchmarks/tool_call.py`; the table is in [sandbox.md](sandbox.md).\n"
    )


def merging() -> str:
    document = load("multi_turn_merging")
    parts = [
        "## Multi-turn: tokens forwarded and trained\n\n`python benchmarks/multi_turn_merging.py`: one batch of "
        "64 two-turn episodes. Counts are exact.\n"
    ]
    for name, result in document["workflows"].items():
        parts.append(f"\n### {name}: {result['episodes']} episodes, {result['turns']} turns\n\n")
        rows = [
            [setting, f"{c['prompt_tokens']:,.0f}", f"{c['prefill_tokens']:,.0f}", f"{c['forwarded']:,.0f}"]
            for setting, c in result["rollout"].items()
        ]
        header = ["rollout", "prompt tokens asked for", "prompt tokens forwarded", "forwarded in all"]
        parts.append(table(header, rows) + "\n")
        rows = [
            [
                form,
                f"{c['trained']:,}",
                f"{c['forwarded_padded']:,}",
                f"{c['forwarded_row_by_row']:,}",
                f"{c['forwarded_shared_prefixes']:,}",
                f"{c['cpu_seconds_padded']:.2f} s",
                f"{c['cpu_seconds_shared_prefixes']:.2f} s",
            ]
            for form, c in result["training"].items()
        ]
        header = ["training rows", "trained tokens", "padded", "row by row", "shared prefixes"]
        parts.append(table([*header, "CPU, padded", "CPU, shared"], rows))
    return "".join(parts) + "\n" + machine(document)


def refine_training() -> str:
    document = load("refine_training")
    runs = document["runs"]
    problems = runs[0]["sampled"]["joint_t1"]["n"]
    parts = [
        "## Does training with refinement pay?\n\n`python benchmarks/refine_training.py`: `make refine`'s job under "
        f"{len(runs)} seeds. Every answer is refined, without a gate, on the same {problems} "
        'held-out problems. "Without refinement" is trained on first answers alone until it has sampled as many tokens '
        "(prompts and completions).\n"
    ]
    for name, title in VARIANTS.items():
        steps = ", ".join(f"{r['runs'][name]['steps']} and {r['runs'][name]['steps_without_refinement']}" for r in runs)
        parts.append(f"\n### {title}\n\nSteps with and without refinement, a seed: {steps}.\n\n")
        parts.append(table(["accuracy", *_seeds(runs)], accuracies(runs, name)) + "\n")
        parts.append(table(["difference, points", "sampled", "greedy"], differences(document["differences"][name])))
    draw_refine_training(runs)
    return (
        "".join(parts)
        + "\nDifferences are paired by problem over all seeds, with 95 % bootstrap intervals.\n\n"
        + "![Accuracy of first and refined answers over sampled tokens](images/refine_training.png)\n\n"
        + REFINE_READING
        + machine(document)
    )


def _seeds(runs: list[dict[str, Any]]) -> list[str]:
    return [f"{mode}, seed {run['seed']}" for mode in ("sampled", "greedy") for run in runs]


def accuracies(runs: list[dict[str, Any]], name: str) -> list[list[str]]:
    """One row a policy and attempt, one column a mode and seed."""
    shown = {
        "untrained, first answers": "untrained_t1",
        "untrained, refined": f"untrained_{name}_t2",
        "trained with refinement, first answers": f"{name}_t1",
        "**trained with refinement, refined**": f"{name}_t2",
        "trained without refinement, first answers": f"plain_for_{name}_t1",
    }
    return [
        [label, *(percent(run[mode][key]["rate"]) for mode in ("sampled", "greedy") for run in runs)]
        for label, key in shown.items()
    ]


def differences(found: dict[str, Any]) -> list[list[str]]:
    """One row a comparison: its difference and interval in both modes, and the values of the seeds."""
    rows = []
    for name in found["sampled"]:
        row = [name]
        for mode in ("sampled", "greedy"):
            one = found[mode][name]
            low, high = one["ci95"]
            by_seed = ", ".join(f"{100 * value:+.1f}" for value in one["by_seed"])
            row.append(f"{100 * one['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] (seeds {by_seed})")
        rows.append(row)
    return rows


def draw_refine_training(runs: list[dict[str, Any]]) -> None:
    """Accuracy, sampled, over the tokens of each run: one line a seed; without refinement, its two measurements."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(VARIANTS), figsize=(10, 3.8), sharey=True, layout="constrained")
    for axis, (name, title) in zip(axes, VARIANTS.items(), strict=True):
        for number, run in enumerate(runs):
            one = run["runs"][name]
            rows = [row for row in one["curve"] if row["mode"] == "sampled"]
            x = [row["step"] / one["steps"] * one["tokens"] / 1000 for row in rows]
            for key, label, colour in (
                ("accuracy_t1", "first answers (a line a seed)", "#a49e91"),
                ("accuracy_t2", "refined", "#3451c7"),
            ):
                y = [100 * row["refine"][key] for row in rows]
                axis.plot(x, y, "o-", markersize=3, color=colour, label=label if number == 0 else None)
            points = [(0, "untrained_t1")]
            points += [(run["runs"][other]["tokens_without_refinement"], f"plain_for_{other}_t1") for other in VARIANTS]
            points = sorted(point for point in points if point[0] <= one["tokens_without_refinement"])
            axis.plot(
                [tokens / 1000 for tokens, _ in points],
                [100 * run["sampled"][key]["rate"] for _, key in points],
                "s--",
                markersize=4,
                color="#c2560c",
                label="first answers, trained without refinement" if number == 0 else None,
            )
        axis.set(title=title, xlabel="tokens of training, prompts and completions, thousands")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("held-out problems solved, %")
    axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(REFINE_FIGURE, dpi=120, metadata={"Software": None})


def refine_cost() -> str:
    document = load("refine_cost")
    rows = []
    for result in document["results"]:
        row = [f"{100 * result['fraction']:g} %", f"{result['ways']['stage']['forwarded_tokens']:,}"]
        for way, one in result["ways"].items():
            if way != "stage":
                low, high = one["times_the_stage_seconds_range"]
                seconds = f"{one['times_the_stage_seconds']:.1f}x ({low:.1f} to {high:.1f})"
                row.append(f"{one['times_the_stage_tokens']:.1f}x tokens, {seconds} seconds")
        rows.append(row)
    ways = [way for way in document["results"][0]["ways"] if way != "stage"]
    batch = document["batch"]
    return (
        "## What a refine stage costs\n\n`python benchmarks/refine_cost.py`: one batch of "
        f"{batch['tasks']} x {batch['group']} first answers of which a share is wrong. The stage refines the wrong "
        "ones; its rivals refine the whole batch: in our engine with and without shared prefixes, and through "
        "transformers' `generate`. Token counts are exact; seconds are medians of interleaved repeats, in brackets "
        "their range. The goal was 3 times at 50 %.\n\n"
        + table(["wrong answers", "stage, tokens forwarded", *ways], rows)
        + "\n![Tokens and seconds over the share of wrong answers](images/refine_cost.png)\n\n"
        + machine(document)
    )


REFINE_READING = """\
What the numbers say. Training the second attempt pays at once: its flaw is that it often does not calculate, and a
refined answer that calculates step by step solves what a terse first answer can't. Without critiques, it ends far
above one trained on first answers for as many tokens. With critiques it rises nearly as far above the untrained
policy's refined answers, but slower, and a step samples 1.7 times as many tokens. By then the policy without refinement
has begun to calculate step by step in its first answers, too; where it does, it is level or ahead. Accuracy@t1 under
`joint` hardly moves: at equal tokens it has trained on a fraction of the first answers.

The policy is a model organism: that second looks calculate and first answers don't was put there by its recipe
([nano_refine](../astune/models/nano_refine/README.md)).

"""


def evaluator() -> str:
    document = load("evaluator")
    ratios = document["ratio_per_round"]
    rows = []
    for name, label in (("astune", "our engine"), ("hf", "Inspect's `hf`")):
        low, high = document["interval"][name]
        seconds = statistics.median(one["wall"] for one in document["seconds"][name])
        rows.append([label, f"{document['accuracy'][name]:.2f} % [{low:.1f}, {high:.1f}]", f"{seconds:.0f} s"])
    return (
        "## Evaluation through Inspect\n\n`python benchmarks/evaluator.py`: "
        f"{document['items']:,} items, the bundled model, greedy, through Inspect with each provider, on the same "
        "cores, taking turns. `hf` decodes in Inspect's process, our evaluator in a second one while Inspect "
        "works in the first.\n\n"
        + table(["provider", "score [95 %]", "median of the rounds"], rows)
        + f"\n**{document['ratio_median']:.1f} times faster** (rounds: {min(ratios):.1f} to {max(ratios):.1f}; the "
        f"goal was {document['target']:g}). Equal verdicts on {document['equal_verdicts']:,} of "
        f"{document['items']:,} items, "
        f"equal completions on {document['equal_completions']:,}; where two tokens tie within float rounding, greedy "
        "decoding of a batch of another shape may choose the other one.\n\n"
        + machine({**document, "load_average": document["load_average"]["after"]})
    )


def agents() -> str:
    document = load("agents")
    draw_agents(document["curves"], document["board"]["budget"]["wall_seconds"])
    rows = []
    for row in document["board"]["with_flagged"]:
        gain, share = row["improvement"], row["normalised"]
        rows.append(
            [
                row["agent"],
                "-" if row["rank"] is None else str(row["rank"]),
                f"{row['score']:.1f} %",
                f"{gain['mean']:+.1f} [{gain['low']:+.1f}, {gain['high']:+.1f}]",
                "-" if share is None else f"{share['mean']:.2f} [{share['low']:.2f}, {share['high']:.2f}]",
                f"{row['area']:+.1f}",
            ]
        )
    lines = [
        f"- {one['more']} less {one['than']}: {one['mean']:+.1f} points [{one['low']:+.1f}, {one['high']:+.1f}]\n"
        for one in document["differences"]
    ]
    budget = document["board"]["budget"]
    return (
        f"## Agents of AutoRL-Bench\n\n`python benchmarks/agents.py --seeds {document['seeds']}`: "
        f"{document['board']['with_flagged'][0]['improvement']['items'] // document['seeds']} hidden problems a seed, "
        f"{document['seeds']} seeds, {budget['wall_seconds']:g} s of wall clock and {budget['dev_queries']} questions "
        "on dev for each run. "
        "Scores are on the hidden test. Normalised: base 0, reference recipe 1. Area: mean lead over the base "
        "on dev during the budget; reference_recipe and do_nothing ask nothing on dev, so that their lines stay "
        "flat.\n\n"
        + table(["agent", "rank", "score", "improvement [95 %]", "normalised [95 %]", "area"], rows)
        + "\nDifferences, paired item by item over the common seeds:\n\n"
        + "".join(lines)
        + "\n![Best dev score against seconds of the budget](images/agents.png)\n\n"
        + reading_of_agents(document)
        + machine({**document, "load_average": document["load_average"]["after"]})
    )


def reading_of_agents(document: dict[str, Any]) -> str:
    """What the differences say, in words, and why random search varies as it does."""
    words = {1: "ahead of", 0: "not told apart from", -1: "behind"}
    said = [f"{one['more']} is {words[one['decided']]} {one['than']}" for one in document["differences"]]
    drawn = [run for run in document["board"]["runs"] if run["agent"] == "random_search" and run["score"] is not None]
    unmoved = sum(run["score"] - run["baseline"] < 10 for run in drawn)
    return (
        f"What the intervals say: {'; '.join(said)}. A draw of random_search either has a learning rate that works or "
        f"leaves the base as it was: {unmoved} of its {len(drawn)} runs ended within 10 points of the base.\n\n"
    )


def draw_agents(curves: dict[str, list[dict[str, Any]]], budget: float) -> None:
    """Best dev score so far over the seconds of the budget: a thin line a seed, their mean thick."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from autorl_bench.leaderboard import Curve, mean_curve

    figure, axis = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
    for colour, (agent, runs) in zip(("#3451c7", "#c2560c", "#2c7a4b", "#a49e91"), curves.items(), strict=False):
        found = [Curve(one["baseline"], tuple(one["seconds"]), tuple(one["best"]), one["budget"]) for one in runs]
        for one, width, alpha in [*((one, 1.0, 0.35) for one in found), (mean_curve(found), 2.4, 1.0)]:
            x, y = [*one.seconds, budget], [*one.best, one.best[-1]]
            axis.step(x, y, where="post", color=colour, lw=width, alpha=alpha, label=agent if alpha == 1 else None)
    axis.set(xlabel="seconds of the budget", ylabel="best score on dev so far, %")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
    figure.savefig(AGENTS_FIGURE, dpi=120, metadata={"Software": None})


ELSEWHERE = """\
## More on refinement

- Strategies at equal budgets of tokens, `python benchmarks/refine_strategies.py`: [refine.md](refine.md).
- What each credit does to a small policy, `python benchmarks/refine_credit_toy.py`:
  [refine_credit.md](refine_credit.md).
"""


def main() -> None:
    sections = [
        INTRODUCTION,
        main_job(),
        training_step(),
        tool_call(),
        merging(),
        refine_training(),
        refine_cost(),
        evaluator(),
        agents(),
        ELSEWHERE,
    ]
    PAGE.write_text("\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
