"""The sampling of a training step and of an evaluation: first answers, and what refinement makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from astune.refine.training.metrics import evaluation_row
from astune.refine.training.stage import Refined, RefineStage
from astune.report.metrics import Evaluation, evaluate
from astune.rollout.runner import EpisodeRunner
from astune.rollout.threads import sampling_threads
from astune.rollout.types import Sampling
from astune.task_reader.types import Task
from astune.trace import Episode, Group

#: Held-out episodes draw from streams of their own, the same at every evaluation: differences are paired.
EVALUATION_STREAM = -1


@dataclass(frozen=True, slots=True)
class Rollout:
    """First answers, one group a task, and what was made of them; ``refined`` is None without a refine stage."""

    groups: list[Group]
    refined: Refined | None = None

    @property
    def episodes(self) -> list[Episode]:
        """Everything that was sampled: first answers in order, then critiques and further attempts."""
        firsts = [episode for group in self.groups for episode in group.episodes]
        return firsts if self.refined is None else firsts + self.refined.episodes


async def roll_out(
    runner: EpisodeRunner,
    tasks: Sequence[Task],
    group_size: int,
    step: int,
    sampling: Sampling,
    threads: int | None,
    stage: RefineStage | None = None,
    *,
    every_row: bool = False,
) -> Rollout:
    """Episodes of ``tasks`` from an engine that remembers nothing: a resumed run has no older cache either.

    Args:
        runner: runs the episodes.
        tasks, group_size: problems, and first answers to each.
        step: names the random streams.
        sampling: how episodes are sampled.
        threads: of torch; None leaves one to the tools that run beside the sampling.
        stage: refines the first answers, where there is one.
        every_row: all of them, as an evaluation does.
    """
    runner.engine.weights_updated()
    with sampling_threads(threads):
        groups = await runner.run_groups(tasks, group_size, step=step, sampling=sampling)
        if stage is None:
            return Rollout(groups)
        return Rollout(groups, await stage.refine(tasks, groups, step, sampling, every_row=every_row))


async def evaluate_tasks(
    runner: EpisodeRunner,
    tasks: Sequence[Task],
    sampling: Sampling,
    mode: str,
    step: int,
    threads: int | None,
    stage: RefineStage | None = None,
) -> tuple[Evaluation, list[Episode]]:
    """Runs every task once, ``sampled`` at temperature 1 or ``greedy``; the result is recorded under ``step``.

    With a refine stage every answer is refined, whatever gate there is: gated accuracies follow from that.
    """
    sampling = replace(sampling, temperature=1.0 if mode == "sampled" else 0.0, top_p=1.0)
    done = await roll_out(runner, tasks, 1, EVALUATION_STREAM, sampling, threads, stage, every_row=True)
    firsts = [episode for group in done.groups for episode in group.episodes]
    found = None
    if stage is not None and done.refined is not None:
        found = evaluation_row(done.refined.rows, stage.config)
    return evaluate(firsts, step, mode, refine=found), done.episodes
