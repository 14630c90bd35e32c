"""A training run: evaluate, then step by step roll out, update, record and save, until done or stopped.

The state of a run after a step is a function of its configuration, its weights and its optimiser
moments: every random stream is named by (seed, step, ...), so a run that was killed and started again
ends with the same bits as one that was not.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import torch

from astune.config.schema import AstuneConfig
from astune.errors import CheckpointError
from astune.refine.training.metrics import batch_metrics
from astune.refine.training.stage import RefineStage
from astune.refine.training.train_rows import stage_of, train_batch
from astune.report.console import ProgressTable, StepRow
from astune.report.metrics import Evaluation, best_score, heldout_metrics, sampled_tokens, step_metrics
from astune.report.run_folder import RunFolder
from astune.report.tracking import Tracker
from astune.rollout.runner import EpisodeRunner
from astune.rollout.session import stream_seed
from astune.rollout.types import Sampling
from astune.task_reader.types import Task
from astune.trace import Episode
from astune.trainer.checkpoint import CheckpointStore, TrainerState
from astune.trainer.data_order import batch_of_step
from astune.trainer.grpo import PolicyUpdater, UpdateResult
from astune.trainer.rollouts import Rollout, evaluate_tasks, roll_out

T = TypeVar("T")


class RunStopped(Exception):
    """The user stopped the run; what was done is saved."""


class TrainingRun:
    """One run in its folder.

    Args:
        config: the whole configuration.
        runner: runs episodes with the policy that ``updater`` trains.
        updater: owns the policy and its optimiser.
        tasks, heldout: problems to train on, and problems to evaluate on.
        sampling: how training episodes are sampled.
        fingerprint: what must be equal when the run is continued.
        stage: refines first answers, in evaluation and, unless ``refine.train`` is off, in training.
    """

    def __init__(
        self,
        config: AstuneConfig,
        folder: RunFolder,
        runner: EpisodeRunner,
        updater: PolicyUpdater,
        tasks: Sequence[Task],
        heldout: Sequence[Task],
        sampling: Sampling,
        fingerprint: dict[str, Any],
        tracker: Tracker | None = None,
        stage: RefineStage | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.runner = runner
        self.updater = updater
        self.tasks = tasks
        self.heldout = heldout
        self.sampling = sampling
        self.tracker = tracker
        self.stage = stage
        self.store = CheckpointStore(folder.checkpoints)
        self.state = TrainerState(fingerprint=fingerprint)
        self._stop = asyncio.Event()

    def resume(self) -> None:
        """Takes up the last checkpoint of the run folder, if there is one.

        Raises:
            CheckpointError: the checkpoint belongs to another configuration, or cannot be read.
        """
        step = self.store.latest()
        if step is None:
            self.folder.truncate_after(-1)
            return
        saved = self.store.load_state(step)
        changed = [key for key, value in self.state.fingerprint.items() if saved.fingerprint.get(key) != value]
        if changed:
            raise CheckpointError(
                f"{self.folder.path} holds a run with another {', '.join(changed)}: give this run a name of its own "
                "(name=...), or remove that folder"
            )
        self.state = saved
        self.updater.restore(self.store, step)
        self.folder.truncate_after(step)

    async def train(self, progress: ProgressTable) -> None:
        """Runs all steps that are left, with the evaluations around them.

        Raises:
            RunStopped: by SIGINT or SIGTERM, after a checkpoint of the last whole step.
        """
        total = self.config.trainer.steps
        with _stop_signals(self._stop):
            await self._evaluate_if_due(progress)
            while self.state.step < total:
                await self._step(progress)
                await self._evaluate_if_due(progress)
                if self._is_due(self.config.checkpoint.every) or self.state.step == total:
                    self.save()

    def save(self) -> None:
        """Writes a checkpoint of the last whole step."""
        self.updater.save(self.store, self.state)

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.state.step % every == 0

    async def _step(self, progress: ProgressTable) -> None:
        """One training step: roll out a batch of groups, update the policy, write what happened."""
        started = time.perf_counter()
        step = self.state.step
        trainer = self.config.trainer
        torch.manual_seed(stream_seed(self.config.seed, step, "torch") & 0x7FFFFFFF)
        batch = batch_of_step(self.tasks, step, trainer.prompts_per_step, self.config.seed)
        stage = self.stage if self.config.refine.train else None
        done = await self._unless_stopped(
            roll_out(self.runner, batch, trainer.group_size, step, self.sampling, self.config.rollout.threads, stage)
        )
        rolled_out = time.perf_counter()
        update = self._update(done, step)
        self.state.step = step + 1
        seconds = time.perf_counter() - started
        self.state.train_seconds += seconds
        metrics = step_metrics(done.groups) | self._refine_metrics(done) | update.metrics
        tokens = sampled_tokens(metrics)
        self._record(metrics, seconds, rolled_out - started, tokens, update.tokens_forwarded)
        if step == 0 or self._is_due(self.config.checkpoint.every) or self.state.step == self.config.trainer.steps:
            self.folder.write_episodes(self.state.step, done.episodes, batch)
        progress.step(StepRow.from_metrics(self.state.step, metrics, seconds, tokens))

    def _update(self, done: Rollout, step: int) -> UpdateResult:
        if done.refined is None:
            return self.updater.update(done.groups, step)
        settings = self.config.refine
        weights = stage_of(settings, self.config.trainer.beta, step)
        return self.updater.train(train_batch(done.refined.rows, settings, weights, self.updater.part), step)

    def _refine_metrics(self, done: Rollout) -> dict[str, float]:
        return {} if done.refined is None else batch_metrics(done.refined, self.config.refine)

    def _record(
        self, metrics: dict[str, float], seconds: float, rollout_seconds: float, tokens: float, trained: int
    ) -> None:
        step = self.state.step
        self.folder.append_metrics(step, metrics)
        self.folder.append_timings(
            step,
            {
                "seconds": seconds,
                "rollout_seconds": rollout_seconds,
                "update_seconds": seconds - rollout_seconds,
                "tokens_per_second": tokens / seconds,
                "trained_tokens_per_second": trained / max(seconds - rollout_seconds, 1e-9),
            },
        )
        if self.tracker is not None:
            self.tracker.log(step, metrics)

    async def _evaluate_if_due(self, progress: ProgressTable) -> None:
        """Scores the held-out tasks where this step asks for it and it is not on record already."""
        on_record = {(evaluation.step, evaluation.mode) for evaluation in self.folder.read_evaluations()}
        for mode in self._modes_due():
            if (self.state.step, mode) in on_record:
                continue
            evaluation, episodes = await self._unless_stopped(self.evaluate(mode))
            self._note_best(evaluation)
            self.folder.write_evaluation(evaluation, episodes)
            progress.evaluation(evaluation)
            if self.tracker is not None:
                self.tracker.log(self.state.step, heldout_metrics(evaluation))

    def _modes_due(self) -> list[str]:
        """Both modes before and after training, sampling alone in between."""
        settings = self.config.evaluation
        first, last = self.state.step == 0, self.state.step == self.config.trainer.steps
        if not (settings.at_start if first else last or self._is_due(settings.every)):
            return []
        return ["sampled"] * settings.sampled + ["greedy"] * (settings.greedy and (first or last))

    async def evaluate(self, mode: str) -> tuple[Evaluation, list[Episode]]:
        """Runs every held-out task once, ``sampled`` at temperature 1 or ``greedy``."""
        threads = self.config.rollout.threads
        step = self.state.step
        return await evaluate_tasks(self.runner, self.heldout, self.sampling, mode, step, threads, self.stage)

    def _note_best(self, evaluation: Evaluation) -> None:
        if evaluation.mode != "sampled" or self.state.step == 0 or not self.config.checkpoint.keep_best:
            return
        score = best_score(evaluation, self.folder.read_evaluations(), self.config.refine.floor)
        if score is not None and (self.state.best_score is None or score > self.state.best_score):
            self.state.best_score, self.state.best_step = score, self.state.step
            self.save()

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits ``work``, which leaves the weights alone; the last whole step is saved if that does not end well.

        Raises:
            RunStopped: a stop signal came, and ``work`` was cancelled.
        """
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop.wait())
        ended_well = False
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise RunStopped
            result = task.result()
            ended_well = True
            return result
        finally:
            stop.cancel()
            if not ended_well and self.state.step > 0:
                self.save()


class _stop_signals:
    """Within the block the first SIGINT or SIGTERM sets ``event``; a second one does what it did before the block."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event
        self._loop = asyncio.get_running_loop()
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> None:
        for number in self._before:
            self._loop.add_signal_handler(number, self._on_signal)

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _on_signal(self) -> None:
        self._event.set()
        self._remove()

    def _remove(self) -> None:
        for number, handler in self._before.items():
            if self._loop.remove_signal_handler(number):
                signal.signal(number, handler)  # asyncio leaves the system's default behind
