"""The main job's episodes: the bundled policy, the AgentScope agent, the real tool."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from astune.models.nano import NANO_PATH
from astune.rollout.chat import pick_renderer
from astune.rollout.engine import LocalEngine
from astune.rollout.runner import EpisodeRunner
from astune.rollout.types import Sampling
from astune.task_judge.math_answer_as_judge import MathAnswerAsJudge
from astune.task_reader.types import Task
from astune.tools.python_tool import record_tool_calls, use_sandbox
from astune.tools.sandbox import Sandbox
from astune.tools.types import SandboxLimits, SandboxResult
from astune.trace import Episode, ToolCall
from tutorial.example_math_agent.math_agent import ExampleMathLearn
from tutorial.example_math_agent.math_agent_plain import PlainMathLearn

pytestmark = pytest.mark.skipif(
    not (NANO_PATH / "model.safetensors").exists(), reason="no bundled weights: python -m astune.models.nano.build"
)

QUESTIONS = {
    "eggs": (
        "Every day Anna collects 41 eggs, eats 3 of them and uses 2 for muffins. The remaining eggs are sold at $8 "
        "per egg. How much does she earn every day?",
        "288",
    ),
    "pens": ("Tom has 12 pens and buys 3 boxes with 4 pens each. How many pens does he have now?", "24"),
}
TASKS = [Task(name, text, answer, [{"role": "user", "content": text}]) for name, (text, answer) in QUESTIONS.items()]


class SlowSandbox(Sandbox):
    """A sandbox whose answers come late, each by another time."""

    async def run(self, code: str, limits: SandboxLimits | None = None) -> SandboxResult:
        result = await super().run(code, limits)
        await asyncio.sleep(0.03 * (hash(asyncio.current_task()) % 4))
        return result


async def episodes_of(workflow: Any, sandbox: Sandbox) -> list[Episode]:
    @contextmanager
    def tools() -> Iterator[list[ToolCall]]:
        with use_sandbox(sandbox), record_tool_calls() as calls:
            yield calls

    model = AutoModelForCausalLM.from_pretrained(NANO_PATH, dtype=torch.float32)
    renderer = pick_renderer(AutoTokenizer.from_pretrained(NANO_PATH))
    runner = EpisodeRunner(
        LocalEngine(model), renderer, workflow, MathAnswerAsJudge(), Sampling(max_tokens=192), tools=tools
    )
    groups = await runner.run_groups(TASKS, 8)
    return [episode for group in groups for episode in group.episodes]


@pytest.mark.parametrize("workflow", [ExampleMathLearn, PlainMathLearn])
async def test_every_episode_ends_with_a_verdict(workflow: Any) -> None:
    with Sandbox() as sandbox:
        episodes = await episodes_of(workflow, sandbox)
    assert [episode.error for episode in episodes] == [None] * 16
    assert all(episode.verdict is not None for episode in episodes)
    assert any(episode.tool_calls for episode in episodes)


async def test_plain_episodes_are_one_trajectory_each() -> None:
    with Sandbox() as sandbox:
        episodes = await episodes_of(PlainMathLearn, sandbox)
    assert [len(episode.trajectories) for episode in episodes] == [1] * 16


async def test_agentscope_episodes_split_only_where_agentscope_deletes_its_hint() -> None:
    with Sandbox() as sandbox:
        episodes = await episodes_of(ExampleMathLearn, sandbox)
    assert {reason for episode in episodes for reason in episode.split_reasons} <= {"edited_history"}
    assert sum(len(episode.trajectories) == 1 for episode in episodes) >= 12


async def test_how_long_tools_take_does_not_change_what_is_sampled() -> None:
    with Sandbox() as quick, SlowSandbox() as slow:
        runs = [await episodes_of(ExampleMathLearn, sandbox) for sandbox in (quick, slow)]
    first, second = ([[t.ids for t in e.trajectories] for e in run] for run in runs)
    assert first == second
