"""Evaluation through Inspect: our engine's provider against Inspect's own ``hf`` provider, on equal items.

    python benchmarks/evaluator.py                      # 1,319 items, three rounds, on a quiet machine
    python benchmarks/evaluator.py --items 60 --rounds 1 --out /tmp/try.json

Both evaluate the bundled model on the same cores, greedily (``hf`` samples unless it is told not to), with the same
items, token limit and checker, and both write an .eval log. ``hf`` decodes in Inspect's own process, our evaluator in
a second one. Rounds alternate which one goes first. A small evaluation by each comes before the clock starts, so that
our second process is there; our evaluator loads its model inside the clock, the peer's is loaded before. The JSON
holds every time, the ratio of each round, the scores, on how many items the two completions agree, and what else the
machine was doing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageUser, GenerateConfig, Model, get_model
from inspect_ai.solver import generate

from astune.models.nano_refine import NANO_REFINE_PATH
from astune.report.environment import environment
from astune.task_reader.nano_gsm import read_nano_gsm
from autorl_bench.evaluator import Grading, evaluate
from autorl_bench.policy import FirstError
from autorl_bench.scenarios.checkers.math_answer import MathAnswer
from autorl_bench.scenarios.schema import Generation
from autorl_bench.types import Evaluation, Item

RESULT = Path(__file__).parent / "results" / "evaluator.json"
FAMILIES = ["running_week", "bus_stops", "egg_sales", "profit"]
TARGET = 5.0
WARM_UP = 8
Contender = Callable[[Sequence[Item], Path], Evaluation]


def problems(n: int, seed: int) -> list[Item]:
    """Direct questions; the largest number is 40 while there are enough such problems."""
    tasks = read_nano_gsm(n, seed, "test", FAMILIES, largest=40 if n <= 400 else None)
    return [Item(task.task_id, task.init_messages, str(task.answer)) for task in tasks]


def ours(max_tokens: int) -> Contender:
    """The evaluator; its model is loaded inside the clock."""

    def run(items: Sequence[Item], log_dir: Path) -> Evaluation:
        generation = Generation(max_tokens=max_tokens)
        return evaluate(NANO_REFINE_PATH, NANO_REFINE_PATH, items, MathAnswer(), generation, log_dir=log_dir)

    return run


def peer(model: Model, max_tokens: int) -> Contender:
    """Inspect's ``hf`` provider as it comes (32 rows a batch), with the evaluator's own scorer."""

    def run(items: Sequence[Item], log_dir: Path) -> Evaluation:
        grading = Grading(items, MathAnswer(), FirstError())
        samples = [
            Sample(id=item.id, input=[ChatMessageUser(content=m["content"]) for m in item.messages], target=item.target)
            for item in items
        ]
        task = Task(
            dataset=MemoryDataset(samples),
            solver=generate(),
            scorer=grading.scorer(),
            config=GenerateConfig(max_tokens=max_tokens),
        )
        [log] = inspect_eval(task, model=model, log_dir=str(log_dir), display="none")
        if log.status != "success":
            raise SystemExit(f"the hf provider ended as {log.status}: {log.error}")
        return Evaluation(grading.results(), Path(log.location))

    return run


def timed(contender: Contender, items: Sequence[Item]) -> tuple[Evaluation, dict[str, float]]:
    """One evaluation with a log folder of its own: wall seconds, and processor seconds of this process and its own."""
    with tempfile.TemporaryDirectory() as logs:
        wall, processor = time.perf_counter(), processor_seconds()
        evaluation = contender(items, Path(logs))
        seconds = {"wall": time.perf_counter() - wall, "processor": processor_seconds() - processor}
    return evaluation, seconds


def processor_seconds() -> float:
    """Of this process and its children, so far."""
    this = psutil.Process()
    times = [process.cpu_times() for process in [this, *this.children(recursive=True)]]
    return sum(one.user + one.system for one in times)


def compare(contenders: dict[str, Contender], items: Sequence[Item], rounds: int) -> dict[str, Any]:
    """Interleaved rounds; the ratio is peer over ours, a round at a time."""
    times: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    last: dict[str, Evaluation] = {}
    for number in range(rounds):
        for name in sorted(contenders, reverse=number % 2 == 1):
            last[name], seconds = timed(contenders[name], items)
            times[name].append(seconds)
            print(f"round {number + 1} {name}: {seconds['wall']:.1f} s, {last[name].accuracy:.2f} %", flush=True)
    ratios = [h["wall"] / a["wall"] for h, a in zip(times["hf"], times["astune"], strict=True)]
    pairs = list(zip(last["hf"].results, last["astune"].results, strict=True))
    return {
        "items": len(items),
        "seconds": times,
        "ratio_per_round": ratios,
        "ratio_median": statistics.median(ratios),
        "target": TARGET,
        "accuracy": {name: evaluation.accuracy for name, evaluation in last.items()},
        "interval": {name: evaluation.interval for name, evaluation in last.items()},
        "equal_completions": sum(h.completion == a.completion for h, a in pairs),
        "equal_verdicts": sum(h.correct == a.correct for h, a in pairs),
        "sampled_tokens": sum(result.tokens for result in last["astune"].results),
        "truncated": last["astune"].n_truncated,
    }


def main() -> None:
    """Runs everything and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1319)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    hf = get_model(f"hf/{NANO_REFINE_PATH}", do_sample=False)
    contenders = {"astune": ours(arguments.max_tokens), "hf": peer(hf, arguments.max_tokens)}
    items = problems(arguments.items, arguments.seed)
    for contender in contenders.values():
        timed(contender, items[:WARM_UP])
    before = os.getloadavg()
    result = compare(contenders, items, arguments.rounds)
    load = {"before": before, "after": os.getloadavg()}
    document = {"environment": environment(), "threads": arguments.threads, "load_average": load} | result
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{result['ratio_median']:.2f} times faster (target {TARGET:g}); scores {result['accuracy']}")


if __name__ == "__main__":
    main()
