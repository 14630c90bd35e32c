"""Tool agents in Inspect: a solver that runs a workflow's episodes on the engine of the provider ``astune``."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageTool,
    ModelOutput,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolCall as InspectToolCall

from astune.errors import EpisodeTimeout, WorkflowFailure
from astune.rollout.runner import EpisodeKind, EpisodeLimits, EpisodeRunner, Job
from astune.rollout.types import Sampling
from astune.task_reader.types import Task
from astune.tools.python_tool import record_tool_calls
from astune.trace import Episode, Turn
from astune.workflow.resolve import resolve_workflow
from autorl_bench.decoding.turns import stop_reason_of
from autorl_bench.inspect_engine import LocalEngineAPI, token_usage
from autorl_bench.policy import EvaluationFailure
from autorl_bench.types import Item

#: Wall-clock limit of one episode. Turns and tool calls have limits of their own; this one is for what hangs, and
#: reaching it is a failure of ours: a slow machine must not cost a model its score.
EPISODE_SECONDS = 900.0

_UNJUDGED = EpisodeKind(judged=False)


class WorkflowEpisodes:
    """The episodes of all items, run together when the first of them is asked for.

    Together, because who shares the engine's batch is then a function of the items alone. Tools run in the sandbox of
    :func:`~astune.tools.python_tool.use_sandbox`, or in the process's own.

    Args:
        api: the provider whose engine and renderer are used.
        items: what the workflow is given: the messages, never the target.
        workflow: class path of the workflow.
        max_turns: model calls of one episode.
        max_tokens: tokens of one completion.
        seed: names the episodes' random streams; greedy decoding draws nothing from them.

    Raises:
        ConfigError: there is no such workflow.
    """

    def __init__(
        self, api: LocalEngineAPI, items: Sequence[Item], workflow: str, *, max_turns: int, max_tokens: int, seed: int
    ) -> None:
        sampling = Sampling(max_tokens=max_tokens, temperature=0.0, stop_token_ids=api.renderer.stop_token_ids)
        self._runner = EpisodeRunner(
            api.engine,
            api.renderer,
            resolve_workflow(workflow),
            None,
            sampling,
            tools=record_tool_calls,
            limits=EpisodeLimits(seconds=EPISODE_SECONDS, turns=max_turns),
            seed=seed,
        )
        self._jobs = [Job(_task(item), 0, (place,), _UNJUDGED) for place, item in enumerate(items)]
        self._running: asyncio.Task[dict[str, Episode]] | None = None
        self._first_error = api.first_error

    async def episode(self, item_id: str) -> Episode | None:
        """The episode of one item; None where the evaluation failed, with the cause in the provider's ``first_error``.

        It fails where the engine or the tools break, an episode passes the wall-clock limit, or the workflow raises.
        """
        if self._running is None:
            self._running = asyncio.ensure_future(self._run())
        with self._first_error.noted():
            return (await asyncio.shield(self._running))[item_id]
        return None

    async def _run(self) -> dict[str, Episode]:
        episodes = await self._runner.run_jobs(self._jobs)
        for episode in episodes:
            if episode.stop_reason in (EpisodeTimeout.kind, WorkflowFailure.kind):
                message = f"the workflow on {episode.task_id} ended with {episode.stop_reason}: {episode.error}"
                raise EvaluationFailure(episode.stop_reason, message)
        return {episode.task_id: episode for episode in episodes}


@solver(name="workflow")
def workflow_solver(episodes: WorkflowEpisodes) -> Solver:
    """Puts the conversation of an item's episode into the log; its completion is the registered ``final_answer``."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        episode = await episodes.episode(str(state.sample_id))
        if episode is None:
            return state
        turns = turns_of(episode)
        state.messages += _conversation(episode, turns)
        answer = str(episode.judge_input.get("final_answer") or "")
        message = ChatMessageAssistant(content=answer, model=state.model.name, source="generate")
        state.output = ModelOutput(
            model=state.model.name,
            choices=[ChatCompletionChoice(message=message, stop_reason=stop_reason_of(turns))],
            usage=token_usage(
                sum(len(turn.prompt_ids) for turn in turns), sum(len(turn.completion_ids) for turn in turns)
            ),
            metadata={"episode": episode.stop_reason, "turns": len(turns), "tool_calls": len(episode.tool_calls)},
        )
        return state

    return solve


def turns_of(episode: Episode) -> list[Turn]:
    """The model calls of an episode, in the order in which they were made."""
    turns = [turn for trajectory in episode.trajectories for turn in trajectory.turns]
    return sorted(turns, key=lambda turn: turn.number)


def _task(item: Item) -> Task:
    question = next(m["content"] for m in reversed(item.messages) if m["role"] == "user")
    return Task(item.id, question, init_messages=list(item.messages))


def _conversation(episode: Episode, turns: Sequence[Turn]) -> Iterator[ChatMessage]:
    """What the model said and what its tools answered."""
    ids = itertools.count()
    ends = [*(turn.tools_before for turn in turns[1:]), len(episode.tool_calls)]
    for turn, end in zip(turns, ends, strict=False):  # an episode may end without a turn
        outputs = episode.tool_calls[turn.tools_before : end]
        calls = [
            InspectToolCall(id=f"call_{next(ids)}", function=call["name"], arguments=_arguments(call["arguments"]))
            for call in turn.message.get("tool_calls", [])
        ]
        yield ChatMessageAssistant(
            content=str(turn.message.get("content") or ""), tool_calls=calls or None, source="generate"
        )
        for call, output in zip(calls, outputs, strict=False):
            yield ChatMessageTool(content=output.output, tool_call_id=call.id, function=call.function)


def _arguments(arguments: object) -> dict[str, object]:
    return dict(arguments) if isinstance(arguments, dict) else {"raw": arguments}
