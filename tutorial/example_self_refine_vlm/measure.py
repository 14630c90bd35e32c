"""Accuracy of first and refined answers on test pictures, before and after short runs of GRPO with self-refine.

    python -m tutorial.example_self_refine_vlm.measure --model tiny-llava --steps 40 --seeds 0 1 2

Every answer is refined, right or wrong (nobody tells the critic), and nothing is greedy: temperature 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from astune.files import atomic_write
from astune.refine.prompts import Message
from astune.refine.training.credit import Chain
from astune.refine.training.outcomes import RefineOutcomes
from astune.refine.training.outcomes import measure as refine_outcomes
from astune.refine.verdict import feedback_of, read_verdict
from tutorial.example_self_refine_vlm import grpo_vlm, shapes, teacher
from tutorial.example_self_refine_vlm.shapes import Problem

#: Written beside this file, one for each model.
RESULT = "measured_{model}.json"
_CHUNK = 100
#: Student's 97.5 % quantile, by the number of seeds.
_T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
_NEW_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Trace:
    """One problem's three texts, and its chain of rewards and verdict."""

    problem: Problem
    first: str
    critique: str
    refined: str
    chain: Chain


def traces(model: PreTrainedModel, processor: ProcessorMixin, problems: Sequence[Problem], seed: int) -> list[Trace]:
    """Answer, critique and refinement of each problem, sampled from torch's generator as ``seed`` sets it."""
    torch.manual_seed(seed)
    asked = [teacher.ask(problem) for problem in problems]
    prompts = teacher.prompts()
    first = _respond(model, processor, problems, asked)
    critiques = _respond(
        model, processor, problems, [prompts.critique(*pair) for pair in zip(asked, first, strict=True)]
    )
    feedback = [feedback_of(critique) for critique in critiques]
    refining = [prompts.refine(*three) for three in zip(asked, first, feedback, strict=True)]
    refined = _respond(model, processor, problems, refining)
    gold = [problem.answer for problem in problems]
    rewards = [grpo_vlm.accuracy([[{"content": text}] for text in texts], gold) for texts in (first, refined)]
    chains = [
        Chain(task, (r1, r2), verdicts=(read_verdict(critique),), correct=(r1 > 0.5, r2 > 0.5))
        for task, (r1, r2, critique) in enumerate(zip(*rewards, critiques, strict=True))
    ]
    return [Trace(*row) for row in zip(problems, first, critiques, refined, chains, strict=True)]


def outcomes(
    model: PreTrainedModel, processor: ProcessorMixin, problems: Sequence[Problem], seed: int
) -> RefineOutcomes:
    """What refinement does to each answer, ungated: accuracies with intervals and transitions."""
    return refine_outcomes([trace.chain for trace in traces(model, processor, problems, seed)])


def train_and_measure(name: str, steps: int, seed: int, problems: Sequence[Problem], *, refine: bool) -> RefineOutcomes:
    """Outcomes after ``steps`` steps of GRPO, with the refine stage or without."""
    with tempfile.TemporaryDirectory() as folder:
        args = grpo_vlm.settings(name, Path(folder), steps, seed)
        args.disable_tqdm = True
        data = grpo_vlm.shape_rows(max(64, 8 * steps), "train", seed + 1000, tiny=True)
        trainer = grpo_vlm.make_trainer(name, args, data, enable_self_refine=refine)
        trainer.train()
        return outcomes(trainer.model.eval(), trainer.processing_class, problems, seed)


def summary(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line of Markdown for each kind of run: the mean over seeds, and its 95 % interval where there are several."""
    lines = ["| run | Acc@t1 | Acc@t2 | i→c | c→i |", "|---|---|---|---|---|"]
    for run in dict.fromkeys(row["run"] for row in runs):
        rows = [row for row in runs if row["run"] == run]
        cells = [
            _mean([row[key] for row in rows]) for key in ("accuracy_t1", "accuracy_t2", "p_c_given_i", "p_i_given_c")
        ]
        lines.append(f"| {run} | " + " | ".join(cells) + " |")
    return lines


def _mean(values: Sequence[float]) -> str:
    mean = statistics.fmean(values)
    if len(values) not in _T95:
        return f"{mean:.2f}"
    return f"{mean:.2f} ± {_T95[len(values)] * statistics.stdev(values) / len(values) ** 0.5:.2f}"


def _respond(
    model: Any,
    processor: Any,
    problems: Sequence[Problem],
    conversations: Sequence[Sequence[Message]],
) -> list[str]:
    texts: list[str] = []
    for start in range(0, len(problems), _CHUNK):
        rows = slice(start, start + _CHUNK)
        inputs = processor(
            images=[[problem.scene.draw()] for problem in problems[rows]],
            text=[processor.apply_chat_template(asked, add_generation_prompt=True) for asked in conversations[rows]],
            padding=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            ids = model.generate(
                **inputs,
                max_new_tokens=_NEW_TOKENS,
                do_sample=True,
                pad_token_id=processor.tokenizer.pad_token_id,
                eos_token_id=processor.tokenizer.eos_token_id,
            )
        width = inputs["input_ids"].shape[1]
        texts += processor.tokenizer.batch_decode(ids[:, width:], skip_special_tokens=True)
    return texts


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a line a run, and writes the numbers to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(grpo_vlm.TINY), default="tiny-llava")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--problems", type=int, default=300, help="test pictures (%(default)s)")
    parser.add_argument("--out", type=Path, help="the numbers as JSON (measured_MODEL.json beside this file)")
    options = parser.parse_args(arguments)
    test = shapes.problems(options.problems, "test", 7)
    model, processor = grpo_vlm.load_model(options.model)
    out = options.out or Path(__file__).with_name(RESULT.format(model=options.model))
    runs: list[dict[str, Any]] = []

    def record(run: str, seed: int, found: RefineOutcomes) -> None:
        row = {"run": run, "seed": seed, **found.to_row()}
        runs.append(row)
        print(f"{run:8} seed {seed}  Acc@t1 {row['accuracy_t1']:.3f}  Acc@t2 {row['accuracy_t2']:.3f}", flush=True)
        given = {"model": options.model, "steps": options.steps, "problems": options.problems}
        atomic_write(out, json.dumps({**given, "runs": runs}, indent=1) + "\n")

    for seed in options.seeds:
        record("before", seed, outcomes(model, processor, test, seed))
        for run, refine in (("refine", True), ("plain", False)):
            record(run, seed, train_and_measure(options.model, options.steps, seed, test, refine=refine))
    print("\n".join(summary(runs)))


if __name__ == "__main__":
    main()
