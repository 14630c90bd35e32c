"""Trains in this process, on one CPU or one GPU."""

from __future__ import annotations

import asyncio
from typing import Any

from rich.console import Console

from astune.backbone.assemble import RunParts, run_parts
from astune.config.schema import AstuneConfig
from astune.errors import CheckpointError
from astune.refine.training.train_rows import needs_reference
from astune.report.console import ProgressTable
from astune.report.environment import environment
from astune.report.html import newest_chains, write_report
from astune.report.metrics import Evaluation, answers
from astune.report.plots import write_reward_curve
from astune.report.refinement import chain_lines, summary_part
from astune.report.run_folder import RunFolder
from astune.report.summary import paired_summary, summarise, summary_in_words, write_summary
from astune.report.tokens import token_decoder
from astune.report.tracking import TensorBoardTracker, Tracker
from astune.task_reader.registry import TaskSplits, read_splits
from astune.trainer.grpo import PolicyUpdater
from astune.trainer.run import RunStopped, TrainingRun

#: Sections that may change between a run and its continuation.
_FREE = {"name", "save_dir", "evaluation", "checkpoint", "tracking"}


def run(config: AstuneConfig, config_text: str) -> int:
    """Trains, or goes on training, and leaves a complete run folder. Returns the exit status.

    Raises:
        UserError: something in the configuration, the tasks, the model or the run folder cannot be used.
        KeyboardInterrupt: the user stopped the run; a checkpoint was written.
    """
    console = Console()
    tasks = read_splits(config.task_reader, config.evaluation.n_heldout)
    folder = RunFolder(config.name, config.save_dir).create()
    with folder.lock(), run_parts(config, trainable=True) as parts:
        training = _training_run(config, folder, parts, tasks)
        if training.store.latest() is not None:
            _check_heldout(folder, tasks)
        training.resume()
        folder.write_config(config_text)
        folder.write_heldout_tasks(tasks.heldout)
        tracker = training.tracker = _tracker(config, folder)
        header = parts.header(_describe(config, tasks))
        try:
            with ProgressTable(header, config.trainer.steps, training.state.step, console=console) as progress:
                asyncio.run(training.train(progress))
        except RunStopped:
            _write_pages(folder, parts)
            console.print(f"Stopped after step {training.state.step}; the same command goes on from there.")
            raise KeyboardInterrupt from None
        finally:
            if tracker is not None:
                tracker.close()
    summary = _summary(config, folder, parts, training)
    if summary is not None:
        write_summary(folder, summary)
    _write_pages(folder, parts)
    _say(console, folder, summary, config.tracking.report)
    return 0


def _check_heldout(folder: RunFolder, tasks: TaskSplits) -> None:
    """Before and after are only comparable on the same problems."""
    known, now = (
        [(task.task_id, task.main_query, task.answer) for task in held]
        for held in (folder.read_heldout_tasks(), tasks.heldout)
    )
    if known != now and folder.read_evaluations():
        raise CheckpointError(
            f"{folder.path} was evaluated on {len(known)} held-out problems, and now there are {len(now)} or others: "
            f"keep evaluation.n_heldout={len(known)} and the tasks as they were, or give this run a name of its own "
            "(name=...)"
        )


def _training_run(config: AstuneConfig, folder: RunFolder, parts: RunParts, tasks: TaskSplits) -> TrainingRun:
    updater = PolicyUpdater(
        parts.model,
        parts.tokenizer,
        config.trainer,
        max_tokens=config.rollout.max_tokens,
        temperature=config.rollout.temperature,
        dropout=config.model.lora.enabled and config.model.lora.dropout > 0,
        on_update=parts.engine.weights_updated,
        with_reference=config.refine.enabled
        and config.refine.train
        and needs_reference(config.refine, config.trainer.beta),
    )
    return TrainingRun(
        config,
        folder,
        parts.runner,
        updater,
        tasks.train,
        tasks.heldout,
        parts.sampling,
        fingerprint(config, parts),
        stage=parts.stage,
    )


def fingerprint(config: AstuneConfig, parts: RunParts) -> dict[str, Any]:
    """What decides the bits of a run: its continuation must agree on all of it.

    More steps may be asked for, unless the learning rate's way down depends on their number.
    """
    values = {name: value for name, value in config.model_dump(mode="json").items() if name not in _FREE}
    if config.trainer.schedule == "constant":
        values["trainer"].pop("steps")
    values["trainer"].pop("threads")
    if not config.refine.enabled:
        values.pop("refine")
    else:
        for name in (
            "gate",
            "score_threshold",
            "score_component",
            "floor",
        ):  # they choose among what is measured anyway
            values["refine"].pop(name)
    threads = parts.header("").threads
    return {f"{section}": value for section, value in values.items()} | {"number of threads": threads}


def _describe(config: AstuneConfig, tasks: TaskSplits) -> str:
    return f"{config.task_reader.type}: {len(tasks.train)} to train on, {len(tasks.heldout)} held out"


def _tracker(config: AstuneConfig, folder: RunFolder) -> Tracker | None:
    return TensorBoardTracker(folder.tensorboard) if config.tracking.tensorboard else None


def _summary(config: AstuneConfig, folder: RunFolder, parts: RunParts, training: TrainingRun) -> dict[str, Any] | None:
    """The content of summary.json; None where the evaluations that it needs were switched off."""
    by_mode: dict[str, list[Evaluation]] = {"sampled": [], "greedy": []}
    for evaluation in folder.read_evaluations():
        by_mode[evaluation.mode].append(evaluation)
    steps = training.state.step
    pairs = {mode: (found[0], found[-1]) for mode, found in by_mode.items() if found and found[0].step == 0}
    if len(pairs) < 2 or any(after.step != steps for _, after in pairs.values()):
        return None
    before, after = (answers(folder.read_evaluation_episodes(step, "sampled")) for step in (0, steps))
    extra = (
        paired_summary(before, after)
        | summary_part(folder.read_evaluations())
        | {
            "model": config.model.path,
            "workflow": config.rollout.workflow_path,
            "sandbox_level": str(parts.sandbox.level),
            "best_step": training.state.best_step,
            "engine": parts.engine.stats(),
            "environment": environment(),
        }
    )
    return summarise(
        pairs["sampled"],
        pairs["greedy"],
        train_seconds=training.state.train_seconds,
        steps=steps,
        seed=config.seed,
        extra=extra,
    )


def _write_pages(folder: RunFolder, parts: RunParts) -> None:
    """Draws the reward curve and the report from what the run folder holds."""
    if folder.read_metrics():
        write_reward_curve(folder)
    if parts.config.tracking.report:
        write_report(folder, token_decoder(parts.tokenizer))


def _say(console: Console, folder: RunFolder, summary: dict[str, Any] | None, with_report: bool) -> None:
    if summary is not None:
        console.print(summary_in_words(summary), highlight=False, markup=False)
    for chain in newest_chains(folder, folder.read_evaluations())[:1]:
        console.print("\n".join(["", *chain_lines(chain), ""]), highlight=False, markup=False)
    page = f"Report: {folder.report}   " if with_report else ""
    console.print(f"{page}Weights: {folder.checkpoints}", highlight=False, soft_wrap=True)
