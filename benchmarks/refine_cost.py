"""What the refine stage costs: by the samples that are refined, against the whole batch expanded and generated again.

One batch of first answers of the bundled policy is marked wrong in a given share, evenly over its tasks. Then the
stage runs in three ways, interleaved, from an engine that remembers nothing:

- ``stage``: the wrong samples alone, common beginnings of their prompts computed once (what training does);
- ``full batch, shared``: every sample criticised and answered again, common beginnings computed once;
- ``full batch``: every sample, each prompt computed alone, as where refine prompts are expanded to the trainer's batch;
- ``full batch, transformers``: the same prompts as padded batches through ``model.generate``, as trainers do that
  build on it: every row is fed until the last one has ended.

The first three sample from the same engine, which drops finished rows and pads no prompt: there the stage is
compared, not the engine. Token counts are exact and the same on every machine; seconds want a quiet one.

    python benchmarks/refine_cost.py                 # about 5 minutes on two quiet cores
    python benchmarks/refine_cost.py --repeats 1 --tasks 2
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from astune.backbone.assemble import RunParts, run_parts
from astune.config import load_config
from astune.refine.training.stage import RefineStage
from astune.report.environment import environment
from astune.rollout.engine import LocalEngine
from astune.task_reader.registry import read_tasks
from astune.task_reader.types import Task
from astune.trace import Group, Verdict

CONF = Path("tutorial/example_self_refine/self_refine.yaml")
RESULT = Path(__file__).parent / "results" / "refine_cost.json"
PICTURE = Path("docs/images/refine_cost.png")
FRACTIONS = (0.125, 0.25, 0.5, 1.0)
#: How a full batch and the stage differ: which rows are refined, and whether prompts share their prefill.
WAYS: dict[str, dict[str, bool] | None] = {
    "stage": {"every_row": False, "share_prefill": True},
    "full batch, shared": {"every_row": True, "share_prefill": True},
    "full batch": {"every_row": True, "share_prefill": False},
    "full batch, transformers": None,
}


def first_answers(parts: RunParts, tasks: Sequence[Task], group: int) -> list[Group]:
    """One batch, sampled once for all measurements."""
    return asyncio.run(parts.runner.run_groups(tasks, group))


def marked(groups: Sequence[Group], fraction: float) -> list[Group]:
    """The same answers, of which a share counts as wrong: in every group as near to the share as can be."""
    made, seen = [], 0
    for group in groups:
        episodes = []
        for episode in group.episodes:
            wrong = int((seen + 1) * fraction) > int(seen * fraction)
            seen += 1
            episodes.append(replace(episode, verdict=Verdict(float(not wrong), not wrong)))
        made.append(Group(group.task_id, episodes))
    return made


def generate(parts: RunParts, tasks: Sequence[Task], groups: Sequence[Group]) -> dict[str, float]:
    """Critiques and refined answers of the whole batch through ``model.generate``: two padded batches."""
    parts.runner.engine = LocalEngine(parts.model, max_batch=len(tasks) * 64)
    stage = RefineStage(parts.config.refine, parts.runner)
    refined = asyncio.run(stage.refine(tasks, groups, 0, parts.sampling, every_row=True))
    prompts = {
        role: [list(reversed(episode.turns[0].prompt_ids)) for episode in refined.episodes if episode.role == role]
        for role in ("critique", "refine")
    }
    torch.manual_seed(0)
    started, cpu = time.perf_counter(), time.process_time()
    prefill = fed = 0
    for of_role in prompts.values():
        rows = [torch.tensor(ids) for ids in of_role]
        ids_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1).flip(1)
        mask_BT = (ids_BT >= 0).long()
        out = parts.model.generate(
            ids_BT.clamp(min=0),
            attention_mask=mask_BT,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=parts.config.refine.max_tokens or parts.sampling.max_tokens,
            eos_token_id=list(parts.sampling.stop_token_ids),
            pad_token_id=parts.tokenizer.pad_token_id,
        )
        prefill += ids_BT.numel()
        fed += len(rows) * (out.shape[1] - ids_BT.shape[1] - 1)
    return {
        "rows": len(prompts["refine"]),
        "prefill_tokens": prefill,
        "decode_tokens": fed,
        "forwarded_tokens": prefill + fed,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
    }


def measure(parts: RunParts, tasks: Sequence[Task], groups: Sequence[Group], way: str) -> dict[str, float]:
    """One run of the stage: tokens forwarded, seconds, and the rows that it refined."""
    options = WAYS[way]
    if options is None:
        return generate(parts, tasks, groups)
    engine = LocalEngine(parts.model, max_batch=len(tasks) * 64, share_prefill=options["share_prefill"])
    parts.runner.engine = engine
    settings = parts.config.refine.model_copy(update={"rows": "wrong"})
    stage = RefineStage(settings, parts.runner)
    started, cpu = time.perf_counter(), time.process_time()
    work = stage.refine(tasks, groups, 0, parts.sampling, every_row=options["every_row"])
    refined = asyncio.run(work)
    seconds = time.perf_counter() - started
    stats = engine.stats()
    return {
        "rows": sum(episode.role == "refine" for episode in refined.episodes),
        "prefill_tokens": stats["prefill_tokens"],
        "decode_tokens": stats["decode_tokens"],
        "forwarded_tokens": stats["prefill_tokens"] + stats["decode_tokens"],
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
    }


def summarise(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Counts of each way (equal in every repeat), its seconds, and how much cheaper the stage is."""
    found: dict[str, Any] = {}
    for way, records in runs.items():
        seconds, cpu = ([record.pop(name) for record in records] for name in ("seconds", "cpu_seconds"))
        if any(record != records[0] for record in records):
            raise SystemExit(f"{way}: the counts differ between repeats, so the stage is not deterministic")
        found[way] = records[0] | {
            "seconds": seconds,
            "median_seconds": statistics.median(seconds),
            "range_seconds": [min(seconds), max(seconds)],
            "median_cpu_seconds": statistics.median(cpu),
        }
    ours = found["stage"]
    for way in list(WAYS)[1:]:
        ratios = [theirs / mine for theirs, mine in zip(found[way]["seconds"], ours["seconds"], strict=True)]
        found[way] |= {
            "times_the_stage_tokens": found[way]["forwarded_tokens"] / ours["forwarded_tokens"],
            "times_the_stage_cpu_seconds": found[way]["median_cpu_seconds"] / ours["median_cpu_seconds"],
            "times_the_stage_seconds": statistics.median(ratios),
            "times_the_stage_seconds_range": [min(ratios), max(ratios)],
        }
    return found


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Tokens and seconds over the share of wrong answers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    shares = [100 * result["fraction"] for result in results]
    panels = (("forwarded_tokens", "tokens forwarded"), ("median_seconds", "seconds"))
    for axes, (key, label) in zip(figure.subplots(1, 2), panels, strict=True):
        for way, colour in zip(WAYS, ("#3451c7", "#a49e91", "#0c7a86", "#c2560c"), strict=True):
            mine = [result["ways"][way] for result in results]
            axes.plot(shares, [one[key] for one in mine], "o-", color=colour, label=way)
            if key == "median_seconds":
                low, high = zip(*(one["range_seconds"] for one in mine), strict=True)
                axes.fill_between(shares, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set(xlabel="wrong first answers, %", ylabel=label, ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=9, loc="center right", bbox_to_anchor=(1.0, 0.72))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def main() -> None:
    """Measures every share and writes the result and its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    config = load_config(CONF, [f"trainer.threads={arguments.threads}"])
    results = []
    with run_parts(config) as parts:
        tasks = read_tasks(config.task_reader)[: arguments.tasks]
        groups = first_answers(parts, tasks, arguments.group)
        measure(parts, tasks, marked(groups, 1.0), "stage")  # warm-up
        for fraction in FRACTIONS:
            runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
            for repeat in range(arguments.repeats):
                for way in list(WAYS)[:: 1 if repeat % 2 == 0 else -1]:
                    runs[way].append(measure(parts, tasks, marked(groups, fraction), way))
            results.append({"fraction": fraction, "ways": summarise(runs)})
            for way in list(WAYS)[1:]:
                full = results[-1]["ways"][way]
                print(
                    f"{fraction:6.1%} wrong, {way}: {full['times_the_stage_tokens']:.2f} times the tokens, "
                    f"{full['times_the_stage_seconds']:.2f} times the seconds",
                    flush=True,
                )
    document = {
        "environment": environment(),
        "load_average": os.getloadavg(),
        "batch": {"tasks": arguments.tasks, "group": arguments.group, "repeats": arguments.repeats},
        "threads": torch.get_num_threads(),
        "results": results,
    }
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(document, indent=1))
    draw(results, arguments.picture)


if __name__ == "__main__":
    main()
