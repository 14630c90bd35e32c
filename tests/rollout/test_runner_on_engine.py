"""Real episodes on the real engine: a Qwen2.5 folder in random weights, with the family's own chat template."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from astune.rollout.chat import pick_renderer
from astune.rollout.engine import LocalEngine
from astune.rollout.runner import EpisodeRunner
from astune.rollout.types import Sampling
from astune.task_judge.math_answer_as_judge import MathAnswerAsJudge
from astune.task_reader.types import Task
from astune.tools.python_tool import record_tool_calls, use_sandbox
from astune.tools.sandbox import Sandbox
from astune.trace import Episode, ToolCall
from tests.rollout.fake_engine import QWEN25_TEMPLATE, QWEN25_TOKENS, small_tokenizer
from tutorial.example_math_agent.math_agent import ExampleMathLearn
from tutorial.example_math_agent.math_agent_plain import PlainMathLearn

TASKS = [Task(name, name, "18", [{"role": "user", "content": f"How many {name}?"}]) for name in ("eggs", "pens")]


@pytest.fixture(scope="module")
def qwen25_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("Qwen2.5-random")
    tokenizer = small_tokenizer(QWEN25_TOKENS, QWEN25_TEMPLATE)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as warm:
        yield warm


def make_runner(folder: Path, workflow: Any, sandbox: Sandbox) -> EpisodeRunner:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert isinstance(model, PreTrainedModel)

    @contextmanager
    def tools() -> Iterator[list[ToolCall]]:
        with use_sandbox(sandbox), record_tool_calls() as calls:
            yield calls

    engine = LocalEngine(model)
    sampling = Sampling(max_tokens=12)
    return EpisodeRunner(engine, pick_renderer(tokenizer), workflow, MathAnswerAsJudge(), sampling, tools=tools, seed=1)


async def episodes_of(folder: Path, workflow: Any, sandbox: Sandbox) -> list[Episode]:
    groups = await make_runner(folder, workflow, sandbox).run_groups(TASKS, 3)
    return [episode for group in groups for episode in group.episodes]


@pytest.mark.parametrize("workflow", [ExampleMathLearn, PlainMathLearn])
async def test_every_episode_is_accounted_for(qwen25_folder: Path, workflow: Any, sandbox: Sandbox) -> None:
    episodes = await episodes_of(qwen25_folder, workflow, sandbox)
    assert len(episodes) == 6
    for episode in episodes:
        assert episode.error is None, episode.traceback
        assert episode.verdict is not None
        assert sum(len(turn.completion_ids) for turn in episode.turns) == sum(
            sum(trajectory.loss_mask) for trajectory in episode.trajectories
        )


async def test_two_runs_of_one_seed_sample_the_same(qwen25_folder: Path, sandbox: Sandbox) -> None:
    runs = [await episodes_of(qwen25_folder, ExampleMathLearn, sandbox) for _ in range(2)]
    first, second = ([[t.ids for t in e.trajectories] for e in run] for run in runs)
    assert first == second


async def test_samples_of_one_task_differ(qwen25_folder: Path, sandbox: Sandbox) -> None:
    episodes = await episodes_of(qwen25_folder, PlainMathLearn, sandbox)
    assert len({tuple(episode.turns[0].completion_ids) for episode in episodes}) == 6


async def test_recorded_logprobs_are_the_models_own(qwen25_folder: Path, sandbox: Sandbox) -> None:
    runner = make_runner(qwen25_folder, ExampleMathLearn, sandbox)
    [group] = await runner.run_groups(TASKS[:1], 1)
    model = AutoModelForCausalLM.from_pretrained(qwen25_folder, dtype=torch.float32).eval()
    for trajectory in group.episodes[0].trajectories:
        with torch.no_grad():
            logits = model(torch.tensor([trajectory.ids])).logits[0, :-1]
        taken = torch.log_softmax(logits, -1).gather(1, torch.tensor(trajectory.ids[1:])[:, None])[:, 0]
        sampled = torch.tensor(trajectory.loss_mask[1:], dtype=torch.bool)
        torch.testing.assert_close(taken[sampled], torch.tensor(trajectory.logprobs[1:])[sampled], atol=1e-4, rtol=1e-4)
