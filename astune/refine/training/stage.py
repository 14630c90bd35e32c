"""The refine stage of the native trainer: from first answers to chains of critiques and further attempts.

First answers are ordinary episodes. Critiques and refined answers are episodes, too, run by the same runner under the
same limits, judged by the run's judge, and sampled from streams that seed, step, task, sample, role and
round name: a run that was killed and started again makes the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from astune.config.refine import Refine
from astune.errors import ConfigError
from astune.refine.batch import RefineOptions, arun_rounds, refine_rounds
from astune.refine.prompts import Message, Prompts, control_tokens, without_controls
from astune.refine.sub_agents import SubAgents
from astune.refine.training.credit import rows_to_refine
from astune.refine.training.refined_row import RefinedRow, attempt_text, grade_of
from astune.refine.types import Attempt, Grade, GradeBatch, History, Sample, SampleBatch, SampleRequest
from astune.rollout.messages import normalise_messages
from astune.rollout.runner import EpisodeKind, EpisodeRunner, Job
from astune.rollout.session import stream_seed
from astune.rollout.types import Sampling
from astune.task_reader.types import Task
from astune.trace import Episode, Group, StopReason
from astune.workflow.direct import DirectAnswer


@dataclass(frozen=True, slots=True)
class Refined:
    """What the stage made of the first answers of a step or an evaluation.

    ``rows`` has one entry a first answer, refined or not; ``episodes`` are all that was sampled for them, in order.
    """

    rows: list[RefinedRow]
    episodes: list[Episode]


class RefineStage:
    """Criticises answers and has them answered again.

    Args:
        config: the ``refine`` section.
        runner: runs the first answers; the stage's episodes are run by it, too.
        prompts: what critic and refiner are told; the bundled texts by default.
    """

    def __init__(self, config: Refine, runner: EpisodeRunner, prompts: Prompts | None = None) -> None:
        self.config = config
        self.runner = runner
        self.agents = SubAgents.of(prompts)
        self._controls = control_tokens(runner.renderer.tokenizer)

    def quoted(self, messages: Sequence[Message]) -> list[Message]:
        """Messages in which no quoted text spells a control token."""
        return without_controls(messages, self._controls)

    async def refine(
        self, tasks: Sequence[Task], groups: Sequence[Group], step: int, sampling: Sampling, *, every_row: bool = False
    ) -> Refined:
        """Refines the answers in ``groups``, one group a task.

        Args:
            tasks: the problems, in the order of ``groups``.
            groups: their first answers.
            step: names the random streams.
            sampling: how the first answers were sampled; ``refine.max_tokens`` is put into it.
            every_row: refine all rows, whatever ``refine.rows`` says (evaluation).

        Raises:
            UserError: the judge failed.
            ConfigError: a task has no question that a prompt could quote.
        """
        firsts = [(number, episode) for number, group in enumerate(groups) for episode in group.episodes]
        for task in tasks:
            _require_question(task)
        answers = [episode for _, episode in firsts]
        drive = _Drive(self, [tasks[number] for number, _ in firsts], answers, step, self._own(sampling))
        histories = await drive.run(self._mask(answers, step, every_row), self._options(every_row))
        rows = [RefinedRow.of(first, histories.get(row), task) for row, (task, first) in enumerate(firsts)]
        return Refined(rows, drive.made)

    def _own(self, sampling: Sampling) -> Sampling:
        return replace(sampling, max_tokens=self.config.max_tokens or sampling.max_tokens)

    def _options(self, every_row: bool) -> RefineOptions:
        """Which rows take another round: with all, or with chosen ones, to the end; wrong ones until they are right."""
        wrong = self.config.refined_rows == "wrong" and not every_row
        return RefineOptions(
            use_critique=self.config.use_critique,
            max_rounds=self.config.max_refine_rounds,
            gate="wrong" if wrong else "always",
        )

    def _mask(self, firsts: Sequence[Episode], step: int, every_row: bool) -> list[bool]:
        """Which answers are refined. One that could not be graded counts as wrong; one that failed has no text."""
        correct = [None if first.error is not None else bool(grade_of(first).correct) for first in firsts]
        rows = "all" if every_row else self.config.refined_rows
        seed = stream_seed(self.runner.seed, step, "rows to refine")
        chosen = set(rows_to_refine(correct, rows, correct_share=self.config.correct_share, seed=seed))
        return [number in chosen for number in range(len(firsts))]


@dataclass(slots=True)
class _Drive:
    """One run of the rounds over a batch."""

    stage: RefineStage
    tasks: list[Task]
    firsts: list[Episode]
    step: int
    sampling: Sampling
    made: list[Episode] = field(default_factory=list)

    async def run(self, mask: Sequence[bool], options: RefineOptions) -> dict[int, History]:
        first = [Attempt(_sample(episode), grade_of(episode)) for episode in self.firsts]
        prompts = [task.init_messages for task in self.tasks]
        rounds = refine_rounds(prompts, first, mask, options, agents=self.stage.agents, excess=self._excess)
        return {history.row: history for history in await arun_rounds(rounds, self._answer, self._grade)}

    async def _answer(self, batch: SampleBatch) -> list[Sample]:
        jobs = [self._job(request, number) for number, request in enumerate(batch.requests)]
        episodes = await self.stage.runner.run_jobs(jobs, step=self.step, sampling=self.sampling)
        self.made += episodes
        return [_sample(episode) for episode in episodes]

    async def _grade(self, batch: GradeBatch) -> list[Grade]:
        return [grade_of(attempt.sample.detail) for attempt in batch.attempts]

    def _job(self, request: SampleRequest, place: int) -> Job:
        task = self.tasks[request.row]
        whole_workflow = request.role == "refine" and self.stage.config.attempt == "workflow"
        asked = self.stage.quoted(request.messages)
        messages = _with_question(task, asked) if whole_workflow else asked
        kind = EpisodeKind(
            request.role,
            request.round,
            workflow_factory=None if whole_workflow else DirectAnswer,
            judged=request.role == "refine",
        )
        return Job(replace(task, init_messages=messages), self.firsts[request.row].sample_index, (place,), kind)

    def _excess(self, messages: Sequence[Message]) -> int:
        """Tokens by which a prompt is too long for the context to hold a completion beside it, as the engine counts."""
        runner = self.stage.runner
        context = runner.engine.max_context
        prompt = len(runner.renderer.render(normalise_messages(self.stage.quoted(messages)), []))
        return prompt + min(self.sampling.max_tokens, context // 2) - context


def _sample(episode: Episode) -> Sample:
    """An episode as the rounds see it: its text, with the ids of its last turn."""
    if episode.error is not None or not episode.turns:
        return Sample("", [], [], error=episode.error or "the workflow never called the model", detail=episode)
    last = episode.turns[-1]
    return Sample(
        text=attempt_text(episode),
        prompt_ids=last.prompt_ids,
        completion_ids=last.completion_ids,
        logprobs=last.logprobs,
        truncated=last.stop_reason is StopReason.LENGTH,
        detail=episode,
        token_count=sum(len(turn.completion_ids) for turn in episode.turns),
    )


def _with_question(task: Task, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The task's own opening with the refine prompt for a question: the workflow brings instructions of its own."""
    places = [number for number, message in enumerate(task.init_messages) if message["role"] == "user"]
    opening = [dict(message) for message in task.init_messages]
    opening[places[-1]] = dict(messages[-1])
    return opening


def _require_question(task: Task) -> None:
    if not any(message.get("role") == "user" for message in task.init_messages):
        raise ConfigError(
            f"task {task.task_id!r} has no user message in init_messages, so a critique can't quote its question: "
            "give it one, or set astune.refine.enabled to false"
        )
