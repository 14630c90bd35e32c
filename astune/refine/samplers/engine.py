"""Samples from an engine in this process: ids and log-probabilities are recorded as they were drawn."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from astune.errors import EpisodeError
from astune.refine.prompts import Message, control_tokens, without_controls
from astune.refine.types import Sample, SampleRequest
from astune.rollout.chat import ChatRenderer
from astune.rollout.messages import normalise_messages
from astune.rollout.session import ChatSession, stream_seed
from astune.rollout.types import Engine, Sampling
from astune.trace import StopReason, Turn

Result = TypeVar("Result")


class EngineSampler:
    """A :class:`~astune.refine.types.Sampler` on an engine such as ``LocalEngine``.

    All requests of a call run in one batch. Each draws from a random stream of its own, named by the seed, batch,
    row, round and role: what else is sampled changes nothing. A control token that a quoted text spells is no control
    token in the prompt.

    Args:
        engine: the engine. It must serve nobody else while ``sample`` runs inside an event loop.
        renderer: its tokenizer's chat renderer.
        sampling: how to sample; ``seed`` is the run's.
    """

    def __init__(self, engine: Engine, renderer: ChatRenderer, sampling: Sampling) -> None:
        self.engine = engine
        self.renderer = renderer
        self.sampling = sampling
        self._controls = control_tokens(renderer.tokenizer)

    def sample(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """One sample for each request, in order.

        Blocks, inside a running event loop, too: there the work is done in a thread with a loop of its own. In a
        coroutine ``await asample(...)`` is the better choice.

        Raises:
            EngineError: the engine failed.
        """
        return run_blocking(self.asample(requests)) if requests else []

    async def asample(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """As ``sample``, on the running event loop.

        Raises:
            EngineError: the engine failed.
        """
        return list(await asyncio.gather(*(self._one(request) for request in requests)))

    def excess(self, messages: Sequence[Message]) -> int:
        """Tokens by which a prompt is too long for the context to hold a whole completion; 0 or less: it fits.

        Half of the context is what a completion may claim at most.
        """
        quoted = without_controls(messages, self._controls)
        prompt = len(self.renderer.render(normalise_messages(quoted)))
        context = self.engine.max_context
        return prompt + min(self.sampling.max_tokens, context // 2) - context

    async def _one(self, request: SampleRequest) -> Sample:
        name = (self.sampling.seed, request.batch, request.row, request.round, request.role)
        session = ChatSession(self.engine, self.renderer, self.sampling, stream=(stream_seed(*name),))
        try:
            _, turn = await session.chat(without_controls(request.messages, self._controls), agent=request.role)
        except EpisodeError as error:
            return Sample("", [], [], error=f"{error.kind}: {error}")
        return self._sample(turn)

    def _sample(self, turn: Turn) -> Sample:
        ids = turn.completion_ids
        text_ids = ids[:-1] if ids and ids[-1] in self.renderer.stop_token_ids else ids
        return Sample(
            text=self.renderer.decode(text_ids),
            prompt_ids=turn.prompt_ids,
            completion_ids=ids,
            logprobs=turn.logprobs,
            truncated=turn.stop_reason is StopReason.LENGTH,
            detail=turn,
        )


def run_blocking(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine to its end and returns its result, whether or not an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="astune-sampler") as thread:
        return thread.submit(asyncio.run, work).result()
