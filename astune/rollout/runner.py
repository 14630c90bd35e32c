"""Runs episodes: a workflow on a task, its judge, and the boundary that turns a bad rollout into data."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from astune.errors import (
    EngineError,
    EpisodeError,
    EpisodeTimeout,
    JudgeError,
    SandboxError,
    TurnLimit,
    UserError,
    WorkflowFailure,
)
from astune.rollout.chat import ChatRenderer
from astune.rollout.redact import without_secrets
from astune.rollout.session import ChatSession
from astune.rollout.types import Engine, Sampling
from astune.rollout.watchdog import watch_loop
from astune.task_judge.registry import run_judge
from astune.task_judge.tool_discipline import habits
from astune.task_reader.types import Task
from astune.trace import Episode, Group, ToolCall, Verdict
from astune.workflow.astune_proxy import AstuneProxy
from astune.workflow.types import Workflow, WorkflowOutput, WorkflowTask

T = TypeVar("T")

_KEPT_CHARACTERS = 4000
_GRACE_SECONDS = 5.0

#: Opens the tools of one episode and yields the list that its tool calls are appended to.
ToolScope = Callable[[], AbstractContextManager[list[ToolCall]]]


@dataclass(frozen=True, slots=True)
class EpisodeLimits:
    """Limits of one episode, and how many run at once.

    ``turns`` counts model calls; an episode that asks for more is judged on what it has. ``seconds`` is
    wall-clock time, judge excluded; an episode that passes it is recorded and not trained on. None sets
    no such limit (for debuggers).
    """

    seconds: float | None = 300.0
    turns: int = 16
    concurrency: int = 64


@dataclass(frozen=True, slots=True)
class EpisodeKind:
    """What an episode is: an answer of the run's workflow unless said otherwise.

    ``role`` and ``round`` are noted on it and name its random stream; ``workflow_factory`` takes the place of the
    run's workflow; without ``judged`` it ends without a verdict.
    """

    role: str = "answer"
    round: int = 0
    workflow_factory: Callable[[], Workflow] | None = None
    judged: bool = True

    @property
    def stream(self) -> tuple[object, ...]:
        """Its part of the stream's name; none for answers."""
        return () if self.role == "answer" else (self.role, self.round)


_ANSWER = EpisodeKind()


@dataclass(frozen=True, slots=True)
class Job:
    """One episode to run. ``place`` orders it among the others of its step."""

    task: Task
    sample_index: int
    place: tuple[int, ...]
    kind: EpisodeKind = _ANSWER


class EpisodeRunner:
    """Runs workflows against an engine and has a judge grade them.

    Args:
        engine: samples completions.
        renderer: the tokenizer's chat renderer.
        workflow_factory: makes the workflow of one episode (the class itself will do).
        judge: grades episodes; None where workflows grade themselves.
        sampling: defaults of every model call.
        tools: opens an episode's tools, see :data:`ToolScope`.
        limits: see :class:`EpisodeLimits`.
        seed: the run's seed; with step, task and sample it names each episode's random stream.
        server: serves ``astune_proxy.base_url``; without it workflows have no HTTP endpoint.
    """

    def __init__(
        self,
        engine: Engine,
        renderer: ChatRenderer,
        workflow_factory: Callable[[], Workflow],
        judge: Any | None,
        sampling: Sampling,
        *,
        tools: ToolScope,
        limits: EpisodeLimits = EpisodeLimits(),
        seed: int = 0,
        server: Any | None = None,
    ) -> None:
        self.engine = engine
        self.renderer = renderer
        self.workflow_factory = workflow_factory
        self.judge = judge
        self.sampling = sampling
        self.tools = tools
        self.limits = limits
        self.seed = seed
        self.server = server
        self._proven = False  # whether a step of this run had anything but one failure
        self._outliving: set[asyncio.Task[Any]] = set()

    async def run_groups(
        self,
        tasks: Sequence[Task],
        group_size: int,
        *,
        step: int = 0,
        sampling: Sampling | None = None,
        on_episode: Callable[[Episode], None] | None = None,
    ) -> list[Group]:
        """Runs ``group_size`` episodes of each task, concurrently; groups come back in the order of ``tasks``.

        Where there are more than ``limits.concurrency``, they run in waves of equal size: in a window that
        moves on with each episode that ends, the wall clock would decide who shares the engine's batch.
        ``on_episode`` is given each episode as it ends, so that what was done is kept whatever comes later.

        Raises:
            UserError: the judge failed, or every episode of the run's first step failed in the same way.
        """
        wanted = [(position, sample) for position in range(len(tasks)) for sample in range(group_size)]
        jobs = [Job(tasks[position], sample, (position, sample)) for position, sample in wanted]
        episodes = await self.run_jobs(jobs, step=step, sampling=sampling, on_episode=on_episode)
        self._refuse_a_broken_start(episodes)
        return [Group(task.task_id, episodes[n * group_size : (n + 1) * group_size]) for n, task in enumerate(tasks)]

    async def run_jobs(
        self,
        jobs: Sequence[Job],
        *,
        step: int = 0,
        sampling: Sampling | None = None,
        on_episode: Callable[[Episode], None] | None = None,
    ) -> list[Episode]:
        """Runs one episode a job, in waves as :meth:`run_groups`; episodes come back in the order of ``jobs``.

        Raises:
            UserError: the judge failed.
        """
        episodes: list[Episode] = []
        for wave in _waves(jobs, self.limits.concurrency):
            runs = [
                self.run_episode(
                    job.task,
                    job.sample_index,
                    job.kind,
                    step=step,
                    key=(step, *job.place),
                    sampling=sampling,
                    on_episode=on_episode,
                )
                for job in wave
            ]
            with watch_loop(self.limits.seconds):
                episodes += await _all_or_first_error(runs)
        return episodes

    async def run_episode(
        self,
        task: Task,
        sample_index: int = 0,
        kind: EpisodeKind = _ANSWER,
        *,
        step: int = 0,
        key: tuple[int, ...] | None = None,
        sampling: Sampling | None = None,
        on_episode: Callable[[Episode], None] | None = None,
    ) -> Episode:
        """Runs and judges one episode of a kind. What goes wrong in it is in its ``error`` and is not raised.

        Raises:
            UserError: what failed would fail every episode (the judge, the model).
            EngineError, SandboxError: the engine broke, or the tools cannot be confined as required.
        """
        episode = Episode(task.task_id, sample_index, role=kind.role, round=kind.round)
        workflow_task = WorkflowTask(task, sample_index)
        started = time.perf_counter()
        with self.engine.session(key or (step, 0, sample_index)) as engine_session, self.tools() as calls:
            session = ChatSession(
                self.engine,
                self.renderer,
                sampling or self.sampling,
                stream=(self.seed, step, task.task_id, sample_index, *kind.stream),
                engine_session=engine_session,
                max_turns=self.limits.turns,
                tool_calls=calls,
            )
            proxy = AstuneProxy(session, self.server)
            workflow = kind.workflow_factory or self.workflow_factory
            output = await self._attempt(episode, workflow_task, proxy, workflow)
            _take_records(episode, session, proxy, calls)
        episode.seconds["total"] = time.perf_counter() - started
        try:
            if episode.error is None and kind.judged:
                episode.verdict = await self._judge(episode, workflow_task, session, output)
        except UserError as error:
            episode.stop_reason, episode.error = "judge_error", str(error)
            raise
        finally:
            episode.seconds["judge"] = time.perf_counter() - started - episode.seconds["total"]
            if on_episode is not None and not _being_cancelled():
                on_episode(episode)
        return episode

    async def _attempt(
        self, episode: Episode, workflow_task: WorkflowTask, proxy: AstuneProxy, workflow: Callable[[], Workflow]
    ) -> WorkflowOutput | None:
        """Runs the workflow and notes on ``episode`` how it ended; returns its output where it has one."""
        session = proxy.session
        try:
            output = await self._run_workflow(workflow_task, proxy, workflow)
        except EpisodeError as raised:
            # A framework may wrap what the model refused (an HTTP client's error, say): the refusal is the cause.
            cause = session.failure if session.failure and isinstance(raised, WorkflowFailure) else raised
            episode.stop_reason = cause.kind
            if not isinstance(cause, TurnLimit):
                episode.error = _shortened(without_secrets(str(cause)))
                episode.traceback = _shortened(without_secrets("".join(traceback.format_exception(raised))))
            return None
        finally:
            proxy.close()
            session.close(EpisodeError("the episode is over"))
        episode.metadata = output.metadata
        return output

    async def _run_workflow(
        self, workflow_task: WorkflowTask, proxy: AstuneProxy, workflow: Callable[[], Workflow]
    ) -> WorkflowOutput:
        task = asyncio.ensure_future(_guarded(_call_workflow(workflow_task, proxy, workflow)))
        try:
            done, _ = await asyncio.wait({task}, timeout=self.limits.seconds)
        except asyncio.CancelledError:
            await self._cancel(task)
            raise
        if not done:
            error = EpisodeTimeout(
                f"the episode passed its limit of {self.limits.seconds or 0:g} s: raise the limit, or bound what hangs"
            )
            proxy.session.close(error)
            await self._cancel(task)
            raise error
        if proxy.session.fatal is not None:
            raise proxy.session.fatal
        if task.cancelled():
            raise WorkflowFailure("the workflow was cancelled from within")
        return task.result()

    async def _cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancels a workflow and waits a while; one that will not end is left behind, with its model closed."""
        task.cancel()
        await asyncio.wait({task}, timeout=_GRACE_SECONDS)
        if task.done():
            task.cancelled() or task.exception()  # marks the exception as seen
        else:
            self._outliving.add(task)
            task.add_done_callback(self._outliving.discard)

    async def _judge(
        self, episode: Episode, workflow_task: WorkflowTask, session: ChatSession, output: WorkflowOutput | None
    ) -> Verdict:
        if output is not None and output.reward is not None:
            return Verdict(output.reward, output.is_success, {"workflow": output.reward})
        if self.judge is None:
            raise JudgeError(
                "the workflow returned no reward and no judge is configured: set astune.task_judge.judge_protocol"
            )
        evidence = {
            "workflow_task": workflow_task,
            "grouped_steps": session.turns,
            "tool_calls": episode.tool_calls,
            "env": None,
        }
        return await run_judge(self.judge, evidence | episode.judge_input)

    def _refuse_a_broken_start(self, episodes: Sequence[Episode]) -> None:
        """What fails everywhere from the start must not silently train on nothing."""
        if self._proven or not episodes:
            return
        failures = {_signature(episode) for episode in episodes if episode.error is not None}
        if len(failures) == 1 and all(episode.error is not None for episode in episodes):
            first = episodes[0]
            # Of the user's own code the place helps; the other kinds say all in their message.
            place = f"\n{first.traceback or ''}".rstrip() if first.stop_reason == WorkflowFailure.kind else ""
            raise UserError(
                f"all {len(episodes)} episodes of the first step failed with {first.stop_reason}: {first.error}{place}"
            )
        self._proven = True


async def _call_workflow(
    workflow_task: WorkflowTask, proxy: AstuneProxy, workflow_factory: Callable[[], Workflow]
) -> WorkflowOutput:
    workflow = workflow_factory()
    run = getattr(workflow, "agentscope_execute", None) or workflow.execute
    output = await run(workflow_task, proxy)
    if not isinstance(output, WorkflowOutput):
        name = f"{type(workflow).__name__}.{run.__name__}"
        raise WorkflowFailure(f"{name} returned {type(output).__name__}, expected a WorkflowOutput")
    return output


async def _guarded(run: Coroutine[Any, Any, WorkflowOutput]) -> WorkflowOutput:
    """Turns whatever a workflow raises into an EpisodeError, except what would fail every episode alike."""
    try:
        return await run
    except (EpisodeError, EngineError, UserError, SandboxError):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise WorkflowFailure("the workflow cancelled itself") from error
    except (Exception, SystemExit) as error:  # the boundary: a workflow is the user's code and may raise anything
        raise WorkflowFailure(f"{type(error).__name__}: {error}") from error


def _waves(wanted: Sequence[T], at_most: int) -> Iterator[Sequence[T]]:
    """Splits ``wanted`` into as few parts as needed, of as equal length as can be."""
    parts = -(-len(wanted) // at_most)
    for part in range(parts):
        yield wanted[part * len(wanted) // parts : (part + 1) * len(wanted) // parts]


async def _all_or_first_error(runs: Iterable[Coroutine[Any, Any, Episode]]) -> list[Episode]:
    """Results of all runs; when one raises, or the caller is cancelled, the others are cancelled and awaited first."""
    jobs = [asyncio.ensure_future(run) for run in runs]
    try:
        return list(await asyncio.gather(*jobs))
    except BaseException:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        raise


def _take_records(episode: Episode, session: ChatSession, proxy: AstuneProxy, calls: Sequence[ToolCall]) -> None:
    episode.trajectories, episode.split_reasons = session.trajectories()
    episode.tool_calls, episode.judge_input = list(calls), dict(proxy.judge_input)
    episode.habits = habits(session.turns, episode.tool_calls)
    episode.seconds = {"model": session.model_seconds, "tools": sum(call.seconds for call in calls)}


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _shortened(text: str) -> str:
    """The end of a long text: in a traceback that is where the error is."""
    return text if len(text) <= _KEPT_CHARACTERS else "... " + text[-_KEPT_CHARACTERS:]


def _signature(episode: Episode) -> tuple[str, str, str]:
    """What makes two failures the same: their kind, the type of the exception, and where it was raised."""
    cause = (episode.traceback or "").partition("\nThe above exception")[0]
    places = [line for line in cause.splitlines() if line.startswith("  File ")]
    error_type = (episode.error or "").partition(":")[0] if episode.stop_reason == WorkflowFailure.kind else ""
    return episode.stop_reason, error_type, places[-1] if places else ""
