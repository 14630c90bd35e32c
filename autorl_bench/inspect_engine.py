"""Inspect's model provider ``astune``: a model on our engine, all samples of an evaluation in one batch.

``get_model("astune/name", weights=..., base=...)`` reads the weights of one folder and takes everything else
(architecture, tokenizer, chat template) from another. Decoding is greedy unless the task's own configuration says
otherwise; a folder's generation_config.json is never read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from astune.errors import ContextOverflow
from astune.rollout.chat import pick_renderer
from astune.rollout.engine import LocalEngine
from astune.rollout.session import stream_seed
from astune.rollout.types import Sampling
from astune.trace import StopReason, Turn
from autorl_bench.policy import FirstError, load_submitted

#: The provider's name in Inspect: models are ``astune/...``.
PROVIDER = "astune"


class LocalEngineAPI(ModelAPI):
    """A model in this process, as Inspect asks for it.

    Args:
        model_name: what logs call it; also the folder of the weights where ``weights`` names none.
        base_url, api_key: of no use to a local model; Inspect passes them to every provider.
        config: Inspect's generation settings.
        weights: folder whose safetensors are read.
        base: folder that everything else is taken from; default: the same.
        renderer: chat renderer, see :func:`~astune.rollout.chat.pick_renderer`.
        max_context: tokens of prompt and completion; default: the model's own limit.
        max_batch: rows that run at once.
        expected: number of requests that will come at once. They are held back until all are there and join the batch
            in the order of their prompts, so that the wall clock does not decide who shares a step. None: they join as
            they come.

    Raises:
        InvalidModel: the weights cannot be used.
        EvaluationFailure: the base model cannot be used.
        ModelError: the named renderer does not fit the tokenizer.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - frozen in effect, and Inspect's own default
        *,
        weights: str | None = None,
        base: str | None = None,
        renderer: str = "auto",
        max_context: int | None = None,
        max_batch: int = 64,
        expected: int | None = None,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        folder = Path(weights or model_name)
        model, tokenizer = load_submitted(folder, Path(base) if base else folder)
        self.renderer = pick_renderer(tokenizer, renderer)
        self.engine = LocalEngine(model, max_context=max_context, max_batch=max_batch)
        self.first_error = FirstError()
        self._start = Gathering(expected) if expected else None

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Samples one completion; one that was cut at the token limit stops with ``max_tokens``.

        A prompt that leaves no room in the context gives an empty completion that stops with ``model_length``. So
        does an engine that broke: its error is in ``first_error``.

        Raises:
            ValueError: tools are offered: those belong to workflows.
        """
        if tools:
            raise ValueError(f"the provider {PROVIDER} offers no tools to a model: evaluate a workflow instead")
        prompt_ids = self.renderer.render([{"role": message.role, "content": message.text} for message in input])
        if self._start is not None:
            await self._start.wait(prompt_ids)
        turn = await self._sample(prompt_ids, config)
        if turn is None:
            return self._output("", "model_length", len(prompt_ids), 0)
        text = completion_text(self.renderer, turn)
        return self._output(text, stop_reason_of([turn]), len(prompt_ids), len(turn.completion_ids))

    def max_connections(self) -> int:
        """As many as the batch may ever hold: the engine does its own queueing."""
        return 4096

    async def _sample(self, prompt_ids: list[int], config: GenerateConfig) -> Turn | None:
        """None where the context is full, or the evaluation has failed."""
        if self.first_error.error is None:
            with self.first_error.noted(), suppress(ContextOverflow):
                return await self.engine.generate(prompt_ids, self._sampling(prompt_ids, config))
        return None

    def _sampling(self, prompt_ids: list[int], config: GenerateConfig) -> Sampling:
        return Sampling(
            max_tokens=config.max_tokens or self.engine.max_context,
            temperature=config.temperature or 0.0,
            top_p=1.0 if config.top_p is None else config.top_p,
            stop_token_ids=self.renderer.stop_token_ids,
            seed=stream_seed(config.seed or 0, *prompt_ids),
        )

    def _output(self, text: str, stop_reason: Any, input_tokens: int, output_tokens: int) -> ModelOutput:
        message = ChatMessageAssistant(content=text, model=self.model_name, source="generate")
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason=stop_reason)],
            # Where it is missing, Inspect counts with a tokenizer of its own, which it downloads.
            usage=token_usage(input_tokens, output_tokens),
        )


@modelapi(name=PROVIDER)
def astune() -> type[ModelAPI]:
    """Registers the provider."""
    return LocalEngineAPI


class Gathering:
    """Lets callers go when ``expected`` of them have come, in the order of the prompts that they brought."""

    def __init__(self, expected: int) -> None:
        self._left = expected
        self._waiting: list[tuple[list[int], asyncio.Future[None]]] = []

    async def wait(self, prompt_ids: list[int]) -> None:
        """Returns when everybody is here; at once for whoever comes later."""
        if self._left <= 0:
            return
        self._left -= 1
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((prompt_ids, mine))
        if self._left == 0:
            # All wake before the engine takes its first step, which is scheduled by the first of them.
            for _, future in sorted(self._waiting, key=lambda entry: entry[0]):
                if not future.done():
                    future.set_result(None)
            self._waiting.clear()
        await mine


def completion_text(renderer: Any, turn: Turn) -> str:
    """All that was sampled, as text without special tokens: what plain decoding with transformers gives."""
    return str(renderer.tokenizer.decode(turn.completion_ids, skip_special_tokens=True))


def stop_reason_of(turns: Sequence[Turn]) -> str:
    """Inspect's name for why the model stopped: ``max_tokens`` if any of the turns was cut."""
    return "max_tokens" if any(turn.stop_reason is StopReason.LENGTH for turn in turns) else "stop"


def token_usage(input_tokens: int, output_tokens: int) -> ModelUsage:
    """Tokens read and sampled, as Inspect counts them."""
    return ModelUsage(input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=input_tokens + output_tokens)
