"""Models that answer in chat: messages in, a text and what it cost out. A model in this process, or an endpoint.

Lost connections, rate limits and server errors are retried by the endpoint's client library, with back-off. An
answer that makes no sense is no such error: it is an answer, and scoring deals with it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from astune.errors import AstuneError, ConfigError, ContextOverflow
from astune.refine.loop_state import Usage
from astune.refine.prompts import Message
from astune.refine.sub_agents import Excess
from astune.refine.types import Role, Sample, SampleRequest

#: Money for a million prompt tokens and for a million sampled ones.
Prices = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said, and what that cost."""

    text: str
    usage: Usage


class ChatModel(Protocol):
    """Replies to a conversation."""

    @property
    def name(self) -> str:
        """What to call it."""
        ...

    @property
    def excess(self) -> Excess | None:
        """How many tokens too long a prompt is; None where that cannot be told without asking."""
        ...

    async def reply(self, messages: Sequence[Message], *, role: Role = "answer", draw: int = 1) -> Reply:
        """One sampled reply. ``role`` and ``draw`` name its random stream: the same names draw the same.

        Raises:
            ContextOverflow: the conversation is too long for the model.
            ConfigError: an endpoint refuses the request as such (its key, model name or parameters).
            EngineError: the model could not be asked, retries included.
        """
        ...


class AsyncSampler(Protocol):
    """What a :class:`SampledModel` stands on: the samplers of the refine stage, asked from a coroutine."""

    async def asample(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """One sample for each request, in order."""
        ...


@dataclass(frozen=True, slots=True)
class SampledModel:
    """A :class:`ChatModel` on a sampler.

    Attributes:
        name: what to call it.
        sampler: an ``EngineSampler`` or ``OpenAISampler``.
        row: tells apart the random streams of loops that share a model; see ``for_row``.
        prices: what tokens cost; without, cost stays 0.
        secret: the endpoint's key, to be taken out of what the endpoint says: some quote the key that they refuse.
    """

    name: str
    sampler: AsyncSampler
    row: int = 0
    prices: Prices = (0.0, 0.0)
    secret: str | None = field(default=None, repr=False)

    @property
    def excess(self) -> Excess | None:
        """The sampler's own count, where it has one."""
        counted: Excess | None = getattr(self.sampler, "excess", None)
        return counted

    def for_row(self, row: int) -> SampledModel:
        """The same model with random streams of its own."""
        return replace(self, row=row)

    async def reply(self, messages: Sequence[Message], *, role: Role = "answer", draw: int = 1) -> Reply:
        """See :class:`ChatModel`."""
        try:
            [sample] = await self.sampler.asample([SampleRequest(role, list(messages), self.row, draw)])
        except AstuneError as error:
            if not self.secret or self.secret not in str(error):
                raise
            raise type(error)(str(error).replace(self.secret, "[secret]")) from None
        if sample.error is not None:
            raise ContextOverflow(sample.error.removeprefix(f"{ContextOverflow.kind}: "))
        return Reply(sample.text, self._usage(sample))

    def _usage(self, sample: Sample) -> Usage:
        reported = getattr(sample.detail, "usage", None)  # an endpoint's response
        prompt = len(sample.prompt_ids) or int(getattr(reported, "prompt_tokens", 0) or 0)
        cost = (prompt * self.prices[0] + sample.tokens * self.prices[1]) / 1e6
        return Usage(sample.tokens, prompt, cost)


@dataclass(frozen=True, slots=True)
class AbsentModel:
    """Stands for a model in a replay, where nothing is asked."""

    name: str
    excess: Excess | None = None

    async def reply(self, messages: Sequence[Message], *, role: Role = "answer", draw: int = 1) -> Reply:
        """Raises: nothing may be asked here."""
        raise AssertionError(f"{self.name} was asked while a record is replayed")


def local_model(path: str, *, temperature: float = 1.0, max_tokens: int = 512, seed: int = 0) -> SampledModel:
    """A model folder, ``nano`` or a repository's name, sampled in this process.

    Raises:
        ModelError: it cannot be loaded.
    """
    from transformers.utils import logging as transformers_logging

    from astune.models.load import load_policy
    from astune.refine.samplers.engine import EngineSampler
    from astune.rollout.chat import pick_renderer
    from astune.rollout.engine import LocalEngine
    from astune.rollout.types import Sampling

    transformers_logging.disable_progress_bar()
    model, tokenizer = load_policy(path)
    sampling = Sampling(max_tokens, temperature, seed=seed)
    return SampledModel(path, EngineSampler(LocalEngine(model), pick_renderer(tokenizer), sampling))


def endpoint_model(
    base_url: str, name: str, *, api_key_env: str = "OPENAI_API_KEY", prices: Prices = (0.0, 0.0), **options: Any
) -> SampledModel:
    """A model behind an OpenAI-compatible endpoint.

    Args:
        base_url: ``http://HOST:PORT/v1``.
        name: the model's name there.
        api_key_env: the environment variable that holds the key. The key goes into requests and nowhere else.
        prices: for the record's cost.
        options: of :class:`~astune.refine.samplers.OpenAISampler`: temperature, max_tokens, seed, max_retries, ...

    Raises:
        ConfigError: the variable is not set, or the address is none.
    """
    from astune.refine.samplers.openai_compatible import OpenAISampler

    key = os.environ.get(api_key_env)
    if not key:
        raise ConfigError(
            f"the environment variable {api_key_env} is not set: {base_url} wants an API key there (any word, where "
            "the server asks for none); another variable is named with --api-key-env"
        )
    if not base_url.startswith(("http://", "https://")):
        raise ConfigError(f"{base_url} is no address of an endpoint: give http://HOST:PORT/v1")
    sampler = OpenAISampler(base_url, name, api_key=key, **options)
    return SampledModel(name, sampler, prices=prices, secret=key)
