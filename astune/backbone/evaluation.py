"""``astuner eval``: scores a checkpoint, without training."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from astune.backbone.assemble import RunParts, run_parts
from astune.config.schema import AstuneConfig
from astune.report.console import evaluation_line
from astune.report.metrics import Evaluation
from astune.task_reader.dataset_file import read_dataset_file
from astune.task_reader.registry import read_splits
from astune.task_reader.types import Task
from astune.trace import Episode
from astune.trainer.rollouts import evaluate_tasks


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
    modes = ["sampled"] * config.evaluation.sampled + ["greedy"] * config.evaluation.greedy
    return [(await _evaluate(config, parts, tasks, mode))[0] for mode in modes]


async def _evaluate(
    config: AstuneConfig, parts: RunParts, tasks: list[Task], mode: str
) -> tuple[Evaluation, list[Episode]]:
    return await evaluate_tasks(parts.runner, tasks, parts.sampling, mode, 0, config.rollout.threads, parts.stage)
