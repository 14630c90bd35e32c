"""``astuner eval``: scores a checkpoint, without training."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from astune.backbone.assemble import RunParts, run_parts
from astune.config.schema import AstuneConfig
from astune.report.console import evaluation_line
from astune.report.metrics import Evaluation, evaluate
from astune.task_reader.dataset_file import read_dataset_file
from astune.task_reader.registry import read_splits
from astune.task_reader.types import Task
from astune.trainer.run import EVALUATION_STREAM


def evaluate_checkpoint(config: AstuneConfig, checkpoint: Path, tasks_file: Path | None) -> int:
    """Scores the model in ``checkpoint`` sampled and greedily, as the ``evaluation`` section asks.

    Prints one line a mode for people and, as its last line, one JSON object for programs.

    Args:
        config: workflow, judge, limits, and the held-out tasks where no file is given.
        checkpoint: any causal LM folder, a run's ``checkpoints/step_...`` among them.
        tasks_file: JSONL or Parquet file with the tasks to score on.
    """
    console = Console()
    tasks = _tasks(config, tasks_file)
    with run_parts(config, model_path=str(checkpoint)) as parts:
        results = asyncio.run(_evaluate_modes(config, parts, tasks))
    for result in results:
        console.print(evaluation_line(result), highlight=False, soft_wrap=True)
    print(json.dumps({result.mode: result.to_row() for result in results}))
    return 0


def _tasks(config: AstuneConfig, tasks_file: Path | None) -> list[Task]:
    if tasks_file is None:
        return read_splits(config.task_reader, config.evaluation.n_heldout).heldout
    options: Any = config.task_reader.dataset_file
    return read_dataset_file(tasks_file, question_key=options.question_key, answer_key=options.answer_key)


async def _evaluate_modes(config: AstuneConfig, parts: RunParts, tasks: list[Task]) -> list[Evaluation]:
    modes = {"sampled": 1.0} if config.evaluation.sampled else {}
    if config.evaluation.greedy:
        modes["greedy"] = 0.0
    results = []
    for mode, temperature in modes.items():
        sampling = replace(parts.sampling, temperature=temperature, top_p=1.0)
        groups = await parts.runner.run_groups(tasks, 1, step=EVALUATION_STREAM, sampling=sampling)
        results.append(evaluate([episode for group in groups for episode in group.episodes], 0, mode))
    return results
