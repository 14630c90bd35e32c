"""The sampler: many coroutines ask, one batch runs, rows join and leave at any step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from astune.errors import ContextOverflow, EngineError
from astune.models.decoder import FastDecoder
from astune.rollout.backend import Admission, Backend, Departure
from astune.rollout.batch import RunningBatch
from astune.rollout.fast_backend import FastBackend
from astune.rollout.hf_backend import HFBackend
from astune.rollout.sampling import sample, uniforms
from astune.rollout.scheduler import Request, Scheduler
from astune.rollout.types import Sampling
from astune.trace import Turn


@dataclass(slots=True)
class EngineStats:
    """Counters since the engine was made.

    Attributes:
        requests: calls of ``generate`` that joined the batch.
        prompt_tokens: tokens of their prompts, as asked for.
        prefill_tokens: prompt tokens forwarded ahead of decoding (padding not counted).
        cached_tokens: prompt tokens that were not forwarded at all.
        decode_tokens: rows summed over decoding steps; each feeds one token, at first the prompt's last.
        steps: decoding steps.
    """

    requests: int = 0
    prompt_tokens: int = 0
    prefill_tokens: int = 0
    cached_tokens: int = 0
    decode_tokens: int = 0
    steps: int = 0


class LocalEngine:
    """Samples from a live transformers model in this process. Implements ``Engine``.

    Llama, Qwen2 and Qwen3 models take the fast path (shared prefixes, cached turns); any other causal LM
    runs through its own forward pass. The engine lives in one event loop at a time: each step holds the
    loop for its few milliseconds, then lets everything else run. It puts the model in eval mode.

    Args:
        model: the live model (possibly wrapped by peft). After changing its weights call
            ``weights_updated``.
        deterministic: who shares a step is a function of data alone, see :mod:`astune.rollout.scheduler`.
            Costs the wait for the slowest tool at the step its session is due.
        max_context: largest prompt + completion, in tokens; default: the model's own limit.
        max_batch: most rows that run at once.
        rejoin_steps: with ``deterministic``, the steps between two turns of a session.
        straggler_seconds: with ``deterministic``, how long the batch waits for a due session before it
            goes on without it (counted as ``late`` in ``stats``).
        share_prefill: compute common prefixes of prompts once.
        reuse_cache: continue a session from its earlier turns' keys and values.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        deterministic: bool = True,
        max_context: int | None = None,
        max_batch: int = 64,
        rejoin_steps: int = 8,
        straggler_seconds: float = 300.0,
        share_prefill: bool = True,
        reuse_cache: bool = True,
    ) -> None:
        limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
        self._max_context = _context(max_context, limit)
        self._max_batch = max_batch
        self._straggler_seconds = straggler_seconds
        self._model = model
        self._share_prefill, self._reuse_cache = share_prefill, reuse_cache
        self._backend = self._new_backend()
        self._scheduler = Scheduler(deterministic, rejoin_steps)
        self._batch = RunningBatch(max_batch)
        self._joining: list[Request] = []
        self._stats = EngineStats()
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    @property
    def max_context(self) -> int:
        """Largest prompt + completion, in tokens."""
        return self._max_context

    @contextmanager
    def session(self, key: tuple[int, ...]) -> Iterator[str]:
        """Opens a session. In deterministic mode open all sessions of a batch before the first request."""
        session = self._scheduler.open(key)
        try:
            yield session
        finally:
            self._scheduler.close(session)
            self._backend.close_session(session)
            self._wake.set()

    async def generate(self, prompt_ids: list[int], sampling: Sampling, session: str | None = None) -> Turn:
        """Samples one completion; a stop token ends it and is part of it.

        ``max_tokens`` is clipped to what the context has room for. Log-probabilities are those of the
        distribution sampled from; a greedy row's are taken at temperature 1. The i-th token of a
        completion is drawn with a number that depends on ``(sampling.seed, i)`` alone.

        Raises:
            ContextOverflow: the prompt leaves no room for a completion.
            EngineError: the batch failed; everyone who was waiting gets this, with the cause.
            ValueError: an empty prompt, or sampling parameters outside their range.
        """
        self._check(prompt_ids, sampling)
        request = Request(prompt_ids, sampling, session, asyncio.get_running_loop().create_future())
        if self._task is None or self._task.done():
            self._wake = asyncio.Event()  # of this event loop, which may not be the last one's
            self._task = asyncio.get_running_loop().create_task(self._run())
        self._scheduler.submit(request)
        self._wake.set()
        request.future.add_done_callback(lambda _: self._wake.set())
        return await request.future

    def weights_updated(self) -> None:
        """Forgets what was made from the old weights: keys and values above all. Call while no request runs."""
        self._backend.clear()

    def stats(self) -> dict[str, float]:
        """Counters (see :class:`EngineStats`), ``rows_per_step`` (mean) and ``late`` (see Scheduler)."""
        mean = self._stats.decode_tokens / max(1, self._stats.steps)
        return {**asdict(self._stats), "rows_per_step": mean, "late": self._scheduler.late}

    def _new_backend(self) -> Backend:
        if FastDecoder.supports(self._model):
            return FastBackend(self._model, share_prefill=self._share_prefill, reuse_cache=self._reuse_cache)
        return HFBackend(self._model, share_prefill=self._share_prefill)

    def _check(self, prompt_ids: list[int], sampling: Sampling) -> None:
        if not prompt_ids:
            raise ValueError("the prompt is empty: a completion needs at least one token to start from")
        if sampling.max_tokens < 1 or sampling.temperature < 0 or not 0 < sampling.top_p <= 1:
            raise ValueError(f"{sampling}: need max_tokens >= 1, temperature >= 0 and 0 < top_p <= 1")
        if len(prompt_ids) + 1 > self._max_context:
            raise ContextOverflow(
                f"the prompt has {len(prompt_ids)} tokens, and a context of {self._max_context} leaves no room for a "
                "completion: raise the model's max_context or shorten the episode"
            )

    async def _run(self) -> None:
        """Steps until nothing runs and nothing is pending."""
        try:
            self._model.eval()
            while True:
                self._drop_abandoned()
                if not self._batch.requests and not self._scheduler.pending:
                    return
                self._scheduler.advance(running=bool(self._batch.requests))
                await self._await_due_sessions()
                self._joining = self._scheduler.take(self._max_batch - len(self._batch))
                self._admit()
                if self._batch.requests:
                    self._step()
                await asyncio.sleep(0)
        except BaseException as error:
            # Nobody awaits this task: the error goes to those who wait for a completion.
            self._fail(error)
            if not isinstance(error, Exception):
                raise

    async def _await_due_sessions(self) -> None:
        deadline = asyncio.get_running_loop().time() + self._straggler_seconds
        while self._scheduler.waiting_for() and (self._batch.requests or self._scheduler.pending):
            self._wake.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._wake.wait()
            except TimeoutError:
                self._scheduler.give_up_waiting()
            self._drop_abandoned()

    def _admit(self) -> None:
        if not self._joining:
            return
        admitted = self._backend.admit([Admission(r.prompt_ids, r.session) for r in self._joining])
        for request, cost in zip(self._joining, admitted, strict=True):
            room = self._max_context - len(request.prompt_ids)
            self._batch.join(request, min(request.sampling.max_tokens, room), cost.cached_tokens)
            self._stats.requests += 1
            self._stats.prompt_tokens += len(request.prompt_ids)
            self._stats.prefill_tokens += cost.computed_tokens
            self._stats.cached_tokens += cost.cached_tokens
        self._joining = []

    @torch.inference_mode()
    def _step(self) -> None:
        batch, rows = self._batch, slice(0, len(self._batch))
        logits_RV = self._backend.step(batch.next_token[rows])
        draws_R = uniforms(batch.stream[rows], batch.sampled[rows])
        tokens, logprobs = sample(logits_RV, batch.temperature[rows], batch.top_p[rows], draws_R)
        logprobs_R = logprobs.cpu().numpy()
        if not np.isfinite(logprobs_R).all():
            raise FloatingPointError("the model's logits are not finite: its weights have probably diverged")
        self._stats.steps += 1
        self._stats.decode_tokens += len(batch)
        done = batch.record(tokens.cpu().numpy(), logprobs_R)
        for row, reason in done:
            request = batch.requests[row]
            if not request.abandoned:
                request.future.set_result(batch.turn(row, reason))
        self._remove([row for row, _ in done])

    def _drop_abandoned(self) -> None:
        """Removes rows and pending requests whose callers were cancelled."""
        self._scheduler.drop_abandoned()
        self._remove([row for row, request in enumerate(self._batch.requests) if request.abandoned])

    def _remove(self, rows: list[int]) -> None:
        if not rows:
            return
        departures = []
        for row in rows:
            request = self._batch.requests[row]
            stays = request.session if self._scheduler.is_open(request.session) else None
            departures.append(Departure(row, self._batch.fed_ids(row), stays))
            self._scheduler.left(request)
        self._backend.remove(departures)
        self._batch.remove(rows)

    def _fail(self, error: BaseException) -> None:
        """Gives the error to everyone who waits, and starts over: nothing of the broken batch is trusted."""
        inside = [*self._batch.requests, *self._joining]
        for request in inside:
            self._scheduler.left(request)
        for request in [*inside, *self._scheduler.clear()]:
            if not request.abandoned:
                _refuse(request, error)
        self._batch, self._joining = RunningBatch(self._max_batch), []
        self._backend = self._new_backend()


def _refuse(request: Request, error: BaseException) -> None:
    if not isinstance(error, Exception):  # the loop itself was cancelled, and its callers with it
        request.future.cancel()
        return
    failure = EngineError(f"the engine failed while it sampled: {type(error).__name__}: {error}")
    failure.__cause__ = error
    request.future.set_exception(failure)


def _context(asked: int | None, limit: Any) -> int:
    """The context to work with: as asked, at most what the model has positions for."""
    if asked is None and limit is None:
        raise ValueError("the model's config names no max_position_embeddings: pass max_context")
    if asked is not None and limit is not None and asked > limit:
        raise ValueError(f"max_context is {asked}, but the model has {limit} positions")
    return int(limit if asked is None else asked)
