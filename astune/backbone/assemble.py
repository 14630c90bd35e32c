"""From a configuration to the parts of a run: model, engine, tools, judge, workflow, runner, tasks."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from astune.config.schema import AstuneConfig
from astune.models.load import load_policy
from astune.proxy.server import ModelServer
from astune.refine.prompts import Prompts
from astune.refine.training.stage import RefineStage
from astune.report.console import RunHeader
from astune.rollout.chat import ChatRenderer, pick_renderer
from astune.rollout.engine import LocalEngine
from astune.rollout.runner import EpisodeLimits, EpisodeRunner
from astune.rollout.types import Sampling
from astune.task_judge.registry import resolve_judge
from astune.task_judge.symbolic import require_level
from astune.task_judge.types import Judge
from astune.tools.python_tool import record_tool_calls, use_sandbox
from astune.tools.sandbox import Sandbox
from astune.trace import ToolCall
from astune.trainer.lora import add_lora
from astune.workflow.resolve import resolve_workflow


@dataclass(slots=True)
class RunParts:
    """Everything that an episode needs, built from one configuration."""

    config: AstuneConfig
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    renderer: ChatRenderer
    engine: LocalEngine
    sandbox: Sandbox
    judge: Judge
    runner: EpisodeRunner
    #: Refines answers; None where that is switched off.
    stage: RefineStage | None
    sampling: Sampling
    device: torch.device

    def header(self, tasks: str) -> RunHeader:
        """What the command prints before it starts."""
        config = self.config
        return RunHeader(
            model=config.model.path,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            tasks=tasks,
            workflow=config.rollout.workflow_path,
            judge=config.task_judge.judge_protocol,
            sandbox=str(self.sandbox.level),
            device=f"{self.device}, {config.model.dtype}",
            threads=torch.get_num_threads(),
            run_folder=str(config.run_folder),
            seed=config.seed,
        )


@contextmanager
def run_parts(config: AstuneConfig, *, model_path: str | None = None, trainable: bool = False) -> Iterator[RunParts]:
    """Builds the parts of a run, and closes what has to be closed.

    Args:
        config: the whole configuration.
        model_path: instead of ``config.model.path`` (a checkpoint to evaluate, say).
        trainable: add the adapters of ``model.lora`` where they are enabled.

    Raises:
        UserError: a part cannot be built from what the configuration says.
        SandboxError: the sandbox does not reach the level that is required.
    """
    _quieten_libraries()
    set_threads(config.trainer.threads)
    torch.manual_seed(config.seed)
    # What costs little is checked before what costs much: a misspelt class fails at once, not after loading.
    workflow = resolve_workflow(config.rollout.workflow_path)
    judge = resolve_judge(config.task_judge.judge_protocol, **config.task_judge.arguments)
    prompts = Prompts.load(config.refine.prompts)
    device = choose_device(config.model.device)
    dtype = getattr(torch, config.model.dtype)
    model, tokenizer = load_policy(model_path or config.model.path, dtype=dtype, device=device)
    if trainable and config.model.lora.enabled:
        model = add_lora(model, config.model.lora)
    renderer = pick_renderer(tokenizer, config.model.renderer)
    engine = LocalEngine(
        model,
        deterministic=config.rollout.deterministic,
        max_context=context_length(config, model),
        max_batch=config.rollout.concurrency,
    )
    sampling = Sampling(
        max_tokens=config.rollout.max_tokens,
        temperature=config.rollout.temperature,
        top_p=config.rollout.top_p,
        stop_token_ids=tuple(renderer.stop_token_ids),
    )
    limits = config.rollout.sandbox
    required = None if limits.require == "none" else limits.require
    require_level(required)  # graders run model-written text: they are held to the same level as tools
    with Sandbox(require=required, limits=limits.limits, preload=limits.preload) as sandbox:
        server = ModelServer()
        try:
            runner = EpisodeRunner(
                engine,
                renderer,
                workflow,
                judge,
                sampling,
                tools=lambda: episode_tools(sandbox),
                limits=EpisodeLimits(
                    seconds=config.rollout.max_episode_seconds,
                    turns=config.rollout.max_turns,
                    concurrency=config.rollout.concurrency,
                ),
                seed=config.seed,
                server=server,
            )
            stage = RefineStage(config.refine, runner, prompts) if config.refine.enabled else None
            yield RunParts(config, model, tokenizer, renderer, engine, sandbox, judge, runner, stage, sampling, device)
        finally:
            server.stop()


@contextmanager
def episode_tools(sandbox: Sandbox) -> Iterator[list[ToolCall]]:
    """Opens the tools of one episode: they run in ``sandbox``, and each call is appended to what is yielded."""
    with use_sandbox(sandbox), record_tool_calls() as calls:
        yield calls


def _quieten_libraries() -> None:
    """The command has a progress display of its own, and episodes are recorded: no library needs to print beside it."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # a prompt that is too long is an episode's error, not a warning
    logging.getLogger("as").setLevel(logging.ERROR)  # AgentScope's


def set_threads(threads: int | None) -> None:
    """Sets torch's threads; None takes the cores that this process may use."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))


def choose_device(name: str) -> torch.device:
    """The device that ``model.device`` names; ``auto`` takes the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def context_length(config: AstuneConfig, model: Any) -> int:
    """Prompt and completion in tokens: what the configuration says, at most what the model was made for."""
    own = getattr(model.config, "max_position_embeddings", None)
    wanted = config.model.max_context
    lengths = [length for length in (own, wanted) if length is not None]
    return min(lengths) if lengths else 4096
