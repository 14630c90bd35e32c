"""Inspect's model provider ``astune-ahead`` and its solver: another process decodes while Inspect does its own work.

Inspect takes about as long over a sample as our engine over a completion of a small model. In one process the two
take turns; here the engine has all prompts before the first sample starts, and a sample finds its completion or waits.
"""

from __future__ import annotations

from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelOutput, modelapi
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolChoice, ToolInfo

from autorl_bench.decoding import Completions, Prompt
from autorl_bench.inspect_engine import model_output
from autorl_bench.policy import FirstError

#: The provider's name in Inspect.
PROVIDER = "astune-ahead"


class AheadAPI(ModelAPI):
    """Looks completions up.

    Args:
        model_name: what logs call the model.
        base_url, api_key: of no use here; Inspect passes them to every provider.
        config: Inspect's generation settings.
        completions: of every prompt that will be asked for.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - frozen in effect, and Inspect's own default
        *,
        completions: Completions,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self._completions = completions
        self.first_error = FirstError()

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """See :meth:`complete`."""
        return await self.complete(input)

    async def complete(self, messages: list[ChatMessage]) -> ModelOutput:
        """The completion of these messages; an empty one where decoding failed: its error is in ``first_error``."""
        if self.first_error.error is None:
            with self.first_error.noted():
                done = await self._completions.of(prompt_of(messages))
                return model_output(self.model_name, done.text, done.stop, done.input_tokens, done.output_tokens)
        return model_output(self.model_name, "", "model_length", 0, 0)

    def max_connections(self) -> int:
        """No limit: whoever asks only waits."""
        return 4096


@modelapi(name=PROVIDER)
def astune_ahead() -> type[ModelAPI]:
    """Registers the provider."""
    return AheadAPI


@solver(name="completion")
def completion_solver(api: AheadAPI) -> Solver:
    """One completion a sample, as Inspect's own ``generate`` gives it.

    That one adds retries, a cache, limits and an event with the request: for what is only looked up, and a quarter more
    of Inspect's time.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state.output = await api.complete(state.messages)
        state.messages.append(state.output.message)
        return state

    return solve


def prompt_of(messages: list[ChatMessage]) -> Prompt:
    """What a completion is looked up by."""
    return tuple((message.role, message.text) for message in messages)
