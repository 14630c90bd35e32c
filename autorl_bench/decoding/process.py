"""The process that decodes: ``python -m autorl_bench.decoding.process FD`` serves one client until it hangs up.

What it loads is somebody's model, so it is confined: it reads files, writes nothing outside its own temporary folder,
starts no programme and reaches no network.

It reads orders from the socket ``FD`` and answers ``{"loaded": true}``, then a frame a prompt; or ``{"error": ...}`` in
place of any of them, which ends the order. While completions take their time it says ``{"alive": true}``. Prompts join
the engine's batch in their own order, so that who shares a step with whom is a function of the prompts alone.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from astune.errors import ContextOverflow
from astune.rollout.chat import pick_renderer
from astune.rollout.engine import LocalEngine
from astune.rollout.session import stream_seed
from astune.rollout.types import Sampling
from astune.tools import confine, landlock
from astune.tools.frames import Decoder, encode
from autorl_bench.decoding.orders import HEARTBEAT, Completion, Order, error_frame
from autorl_bench.decoding.turns import completion_text, stop_reason_of
from autorl_bench.policy import load_submitted

_CHUNK = 1 << 16
Send = Callable[[dict[str, Any]], None]


async def carry_out(order: Order, send: Send) -> None:
    """Decodes all prompts of an order, saying each completion as soon as it is there. Errors are said, not raised."""
    try:
        torch.set_num_threads(order.threads)
        decoding = _Decoding(order, send)
        send({"loaded": True})
        await decoding.all()
    except Exception as error:  # not swallowed: the client raises it
        first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        send(error_frame(first))


class _Decoding:
    """A loaded model, and the prompts in its tokens."""

    def __init__(self, order: Order, send: Send) -> None:
        model, tokenizer = load_submitted(Path(order.weights), Path(order.base))
        self._order, self._send = order, send
        self._renderer = pick_renderer(tokenizer, order.renderer)
        self._engine = LocalEngine(model, max_context=order.max_context, max_batch=order.max_batch)
        self._prompts = [self._renderer.render(_messages(prompt)) for prompt in order.prompts]

    async def all(self) -> None:
        """Says every completion. Raises an ExceptionGroup of EngineError."""
        beating = asyncio.create_task(self._beat())
        try:
            async with asyncio.TaskGroup() as group:
                for index, ids in sorted(enumerate(self._prompts), key=lambda entry: entry[1]):
                    group.create_task(self._complete(index, ids))
        finally:
            beating.cancel()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            self._send({"alive": True})

    async def _complete(self, index: int, prompt_ids: list[int]) -> None:
        sampling = Sampling(
            max_tokens=self._order.max_tokens or self._engine.max_context,
            temperature=0.0,
            stop_token_ids=self._renderer.stop_token_ids,
            seed=stream_seed(0, *prompt_ids),
        )
        try:
            turn = await self._engine.generate(prompt_ids, sampling)
        except ContextOverflow:
            completion = Completion("", "model_length", len(prompt_ids), 0)
        else:
            text = completion_text(self._renderer, turn)
            completion = Completion(text, stop_reason_of([turn]), len(prompt_ids), len(turn.completion_ids))
        self._send({"index": index, **asdict(completion)})


def _messages(prompt: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in prompt]


async def serve(channel: socket.socket) -> None:
    """Carries out orders, one after the other, until the client hangs up; then ends the process, busy or not."""
    reader, writer = await asyncio.open_connection(sock=channel)
    orders: asyncio.Queue[Order] = asyncio.Queue()

    def send(frame: dict[str, Any]) -> None:
        writer.write(encode(frame))

    async def work() -> None:
        while True:
            await carry_out(await orders.get(), send)

    worker = asyncio.create_task(work())
    decoder = Decoder()
    while data := await reader.read(_CHUNK):
        for frame in decoder.feed(data):
            orders.put_nowait(Order.of(frame))
    os._exit(int(worker.done()))  # without a look back: nobody is left who could use what is being computed


def confine_to(writable: str) -> None:
    """Takes this process's rights away, for good, as far as the system can. All that it needs is imported.

    Raises:
        OSError: the system can, and did not.
    """
    if sys.platform != "linux":
        return
    confine.give_up_privileges()
    try:
        landlock.abi_version()
    except OSError:  # a kernel without it
        return
    landlock.enter(landlock.make_ruleset(["/"], ["/dev/null"], writable=[writable]))


if __name__ == "__main__":
    confine_to(tempfile.gettempdir())
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
