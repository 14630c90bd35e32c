"""Samples from an OpenAI-compatible endpoint: a served policy, or another model as critic."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from astune.errors import ConfigError, EngineError
from astune.refine.types import Sample, SampleRequest
from astune.rollout.session import stream_seed

if TYPE_CHECKING:
    from openai import BadRequestError, OpenAI


class OpenAISampler:
    """A :class:`~astune.refine.types.Sampler` on ``POST {base_url}/chat/completions``.

    Transport errors, rate limits and server errors are retried by the client library, with back-off. Such an
    endpoint tells no token ids, so its samples cannot be trained on: they have texts, token counts and, if asked
    for, log-probabilities.

    Args:
        base_url: the endpoint, ``http://HOST:PORT/v1``.
        model: the model's name there.
        api_key: sent as bearer token; None takes ``OPENAI_API_KEY`` from the environment.
        max_tokens: of one completion.
        temperature: 0 is greedy.
        seed: of the run; each request sends a seed of its own, made from this, batch, row, round and role.
        logprobs: ask for the log-probabilities of the sampled tokens.
        concurrency: requests in flight.
        max_retries: after the first attempt.
        timeout: seconds of one attempt.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        max_tokens: int = 512,
        temperature: float = 1.0,
        seed: int = 0,
        logprobs: bool = False,
        concurrency: int = 8,
        max_retries: int = 3,
        timeout: float = 120.0,
    ) -> None:
        if concurrency < 1:
            raise ConfigError(f"concurrency is {concurrency}: at least one request has to be in flight")
        self.base_url = base_url
        self.model = model
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.seed = seed
        self.logprobs = logprobs
        self.concurrency = concurrency
        self._client = _client(base_url, api_key, max_retries, timeout)

    def sample(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """One sample for each request, in order; at most ``concurrency`` are in flight.

        Raises:
            ConfigError: the endpoint refuses the requests as such (its key, model name or parameters).
            EngineError: it could not be reached, or failed, retries included.
        """
        if not requests:
            return []
        with ThreadPoolExecutor(min(self.concurrency, len(requests)), thread_name_prefix="astune-openai") as pool:
            jobs = [pool.submit(self._one, request) for request in requests]
            try:
                return [job.result() for job in jobs]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # what has not begun would only fail alike
                raise

    async def asample(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """As ``sample``, without holding up the running event loop."""
        return await asyncio.to_thread(self.sample, requests)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _one(self, request: SampleRequest) -> Sample:
        import openai

        try:
            return _sample(self._client.chat.completions.create(**self._body(request)))
        except openai.BadRequestError as error:
            if _is_overflow(error):
                return Sample("", [], [], error=f"context_overflow: {error.message}")
            raise ConfigError(f"endpoint {self.base_url} refused the request: {error.message}") from error
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise ConfigError(
                f"endpoint {self.base_url} answered {error.status_code} for model {self.model!r}: {error.message}; "
                "check its address, the model's name and the API key"
            ) from error
        except openai.OpenAIError as error:
            raise EngineError(f"endpoint {self.base_url} could not be asked: {error}") from error
        except (ValueError, AttributeError, TypeError, LookupError) as error:  # the client library checks no answer
            raise EngineError(
                f"endpoint {self.base_url} answered something that is no chat completion: {error}"
            ) from error

    def _body(self, request: SampleRequest) -> dict[str, Any]:
        name = (self.seed, request.batch, request.row, request.round, request.role)
        body: dict[str, Any] = {
            "model": self.model,
            "messages": request.messages,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": stream_seed(*name) % 2**31,  # many servers read 32 bits
        }
        return body | ({"logprobs": True} if self.logprobs else {})


def _client(base_url: str, api_key: str | None, max_retries: int, timeout: float) -> OpenAI:
    try:
        from openai import OpenAI, OpenAIError
    except ImportError as error:
        raise ConfigError(
            "an OpenAI-compatible endpoint needs the openai package: pip install 'astune[endpoint]'"
        ) from error
    try:
        return OpenAI(base_url=base_url, api_key=api_key, max_retries=max_retries, timeout=timeout)
    except OpenAIError as error:  # no key here nor in the environment
        raise ConfigError(f"endpoint {base_url}: {error}") from error


def _is_overflow(error: BadRequestError) -> bool:
    return error.code == "context_length_exceeded" or "context length" in str(error.message)


def _sample(response: Any) -> Sample:
    """Reads a response; servers leave out usage, log-probabilities and even the text."""
    choice = response.choices[0]
    reasoning = getattr(choice.message, "reasoning_content", None) or getattr(choice.message, "reasoning", None)
    text = choice.message.content or ""
    drawn = choice.logprobs.content if choice.logprobs is not None else None
    return Sample(
        text=f"<think>{reasoning}</think>\n{text}" if reasoning else text,
        prompt_ids=[],
        completion_ids=[],
        logprobs=[token.logprob for token in drawn] if drawn else None,
        truncated=choice.finish_reason == "length",
        detail=response,
        token_count=None if response.usage is None else response.usage.completion_tokens,
    )
