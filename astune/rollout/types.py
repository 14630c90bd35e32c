"""What an engine is: token ids in, one sampled turn out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from astune.trace import Turn


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample one completion. ``temperature`` 0 is greedy decoding.

    ``seed`` names the request's own random stream: what it draws depends on nothing else.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop_token_ids: tuple[int, ...] = ()
    seed: int = 0


class Engine(Protocol):
    """A sampler that many coroutines call at once."""

    @property
    def max_context(self) -> int:
        """Largest prompt + completion, in tokens."""
        ...

    def session(self, key: tuple[int, ...]) -> AbstractContextManager[str]:
        """Opens a session (one episode) and yields its id; closes it and frees its cache on exit.

        ``key`` orders sessions: in deterministic mode rows join the batch in this order.
        """
        ...

    async def generate(self, prompt_ids: list[int], sampling: Sampling, session: str | None = None) -> Turn:
        """Samples one completion.

        Raises:
            ContextOverflow: the prompt leaves no room for ``max_tokens >= 1`` in the context.
        """
        ...

    def weights_updated(self) -> None:
        """Forgets every cached key and value. To be called after the weights have changed, while no request runs."""
        ...
