"""Inspect's model provider ``astune``: a model on our engine, in this process.

``get_model("astune/name", weights=..., base=...)`` reads the weights of one folder and takes everything else
(architecture, tokenizer, chat template) from another. Decoding is greedy unless the task's own configuration says
otherwise; a folder's generation_config.json is never read.
"""

from __future__ import annotations

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
from astune.trace import Turn
from autorl_bench.decoding.turns import completion_text, stop_reason_of
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
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        folder = Path(weights or model_name)
        model, tokenizer = load_submitted(folder, Path(base) if base else folder)
        self.renderer = pick_renderer(tokenizer, renderer)
        self.engine = LocalEngine(model, max_context=max_context, max_batch=max_batch)
        self.first_error = FirstError()

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
        turn = await self._sample(prompt_ids, config)
        if turn is None:
            return model_output(self.model_name, "", "model_length", len(prompt_ids), 0)
        text = completion_text(self.renderer, turn)
        return model_output(self.model_name, text, stop_reason_of([turn]), len(prompt_ids), len(turn.completion_ids))

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


@modelapi(name=PROVIDER)
def astune() -> type[ModelAPI]:
    """Registers the provider."""
    return LocalEngineAPI


def model_output(model_name: str, text: str, stop_reason: Any, input_tokens: int, output_tokens: int) -> ModelOutput:
    """One completion, as Inspect has it."""
    message = ChatMessageAssistant(content=text, model=model_name, source="generate")
    return ModelOutput(
        model=model_name,
        choices=[ChatCompletionChoice(message=message, stop_reason=stop_reason)],
        # Where it is missing, Inspect counts with a tokenizer of its own, which it downloads.
        usage=token_usage(input_tokens, output_tokens),
    )


def token_usage(input_tokens: int, output_tokens: int) -> ModelUsage:
    """Tokens read and sampled, as Inspect counts them."""
    return ModelUsage(input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=input_tokens + output_tokens)
