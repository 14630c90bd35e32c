"""The recorder of one episode: every model call, through whatever door, becomes one Turn here.

A call whose messages extend an earlier call's conversation continues that call's ids, so what was
sampled is never tokenised again. Any other call is rendered from its messages, and the session
notes why.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from astune.errors import ContextOverflow, EngineError, EpisodeError, TurnLimit
from astune.rollout.chat import ChatRenderer, Tools
from astune.rollout.messages import Message, message_key, normalise_messages
from astune.rollout.types import Engine, Sampling
from astune.trace import SplitReason, StopReason, ToolCall, Trajectory, Turn, build_trajectories

_ASSISTANT = '["assistant"'  # how the key of an assistant message begins


def stream_seed(*parts: object) -> int:
    """Returns the 63-bit seed of the random stream that ``parts`` name: stable across processes and machines."""
    name = json.dumps([str(part) for part in parts]).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") >> 1


@dataclass(slots=True)
class _Record:
    """One finished call: the conversation up to and including its answer, as messages and as keys."""

    messages: list[Message]
    keys: list[str]
    tools: str
    turn: Turn
    continued: bool = False


class ChatSession:
    """Calls the model for one episode and records each call.

    Args:
        engine: samples completions.
        renderer: turns messages into ids and back.
        sampling: defaults of every call.
        stream: names the episode's random stream; turn ``k`` samples with ``stream_seed(*stream, k)``.
        engine_session: the engine's session that keeps this episode's cache.
        max_turns: model calls allowed.
        tool_calls: the episode's tool executions so far; each turn notes how many there were.
    """

    def __init__(
        self,
        engine: Engine,
        renderer: ChatRenderer,
        sampling: Sampling,
        *,
        stream: tuple[object, ...] = (0,),
        engine_session: str | None = None,
        max_turns: int | None = None,
        tool_calls: Sequence[ToolCall] = (),
    ) -> None:
        self.engine = engine
        self.renderer = renderer
        self.sampling = sampling
        self.model_seconds = 0.0
        #: The last EpisodeError that a call raised, whatever the agent made of it.
        self.failure: EpisodeError | None = None
        #: What ended the engine, where it did: no workflow can make that good.
        self.fatal: EngineError | None = None
        self._stream = stream
        self._engine_session = engine_session
        self._max_turns = max_turns
        self._tool_calls = tool_calls
        self._calls = 0
        self._records: dict[int, _Record] = {}
        self._closed: EpisodeError | None = None
        self._call_ids = itertools.count()

    @property
    def turns(self) -> list[Turn]:
        """Every finished call, in the order in which the agent made them."""
        return [self._records[index].turn for index in sorted(self._records)]

    def trajectories(self) -> tuple[list[Trajectory], Counter[str]]:
        """The turns merged by exact prefix, and the counted reasons where that failed."""
        return build_trajectories(self.turns)

    def close(self, error: EpisodeError) -> None:
        """Refuses every later call with ``error``, or with the one of the first close.

        An agent that outlives its episode must not sample.
        """
        self._closed = self._closed or error

    def next_call_id(self) -> str:
        """An id for a tool call: counted, for some chat templates print it and prompts must repeat from run to run."""
        return f"call_{next(self._call_ids)}"

    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Tools | None = None,
        *,
        agent: str = "agent",
        max_tokens: int | None = None,
    ) -> tuple[Message, Turn]:
        """Samples the assistant's answer to ``messages``; returns it with its Turn.

        ``max_tokens`` can only lower the run's own limit. The rest of sampling is the run's: what an agent would
        like to sample at must not move the distribution that is trained or evaluated.

        Raises:
            MessageError: the messages cannot be rendered.
            EpisodeError: the prompt leaves no room in the context, the episode is over, or it has used its turns.
            EngineError: the engine broke.
        """
        try:
            return await self._chat(normalise_messages(messages), tools or [], agent, max_tokens)
        except EpisodeError as error:
            self.failure = error
            raise

    async def _chat(
        self, messages: list[Message], tools: Tools, agent: str, max_tokens: int | None
    ) -> tuple[Message, Turn]:
        index, tools_before = self._next_index(), len(self._tool_calls)
        keys = [message_key(message) for message in messages]
        tools_key = json.dumps(tools, sort_keys=True)
        prompt_ids, reason = self._prompt(messages, keys, tools, tools_key)
        sampling = self._sampling_of(index, len(prompt_ids), max_tokens)
        started = time.perf_counter()
        try:
            turn = await self.engine.generate(prompt_ids, sampling, self._engine_session)
        except EpisodeError:
            raise
        except Exception as error:  # an engine may be any library: what it raises concerns every episode
            self.fatal = EngineError(f"the engine failed: {error}")
            raise self.fatal from error
        self.model_seconds += time.perf_counter() - started
        answer = self.renderer.parse(turn.completion_ids, prompt_ids, tools)
        if turn.stop_reason is StopReason.EOS and answer.get("tool_calls"):
            turn.stop_reason = StopReason.TOOL_CALL
        turn.agent, turn.message, turn.split_reason = agent, answer, reason
        turn.number, turn.tools_before = index, tools_before
        [said] = normalise_messages([answer])
        self._records[index] = _Record([*messages, said], [*keys, message_key(said)], tools_key, turn)
        # A copy: what a framework does to its message must not change the record.
        return copy.deepcopy(answer), turn

    def _next_index(self) -> int:
        if self._closed is not None:
            raise self._closed
        if self._max_turns is not None and self._calls >= self._max_turns:
            raise TurnLimit(f"the agent asked for more than {self._max_turns} model calls (limit of an episode)")
        self._calls += 1
        return self._calls - 1

    def _sampling_of(self, index: int, prompt_length: int, max_tokens: int | None) -> Sampling:
        room = self.engine.max_context - prompt_length
        if room < 1:
            raise ContextOverflow(
                f"the prompt of model call {index + 1} has {prompt_length} tokens, "
                f"the model's context holds {self.engine.max_context}"
            )
        base = self.sampling
        wanted = base.max_tokens if max_tokens is None else min(base.max_tokens, max_tokens)
        return replace(
            base,
            max_tokens=min(wanted, room),
            stop_token_ids=base.stop_token_ids or self.renderer.stop_token_ids,
            seed=stream_seed(*self._stream, index),
        )

    def _prompt(
        self, messages: list[Message], keys: list[str], tools: Tools, tools_key: str
    ) -> tuple[list[int], SplitReason | None]:
        """Prompt ids of a call, and why they extend no earlier turn (None where they do)."""
        record = self._extended(keys, tools_key)
        if record is None:
            return self.renderer.render(messages, tools), self._new_start(keys)
        turn, known = record.turn, len(record.keys)
        ids = turn.prompt_ids + turn.completion_ids
        bridged = self.renderer.bridge(record.messages, ids, len(turn.prompt_ids), messages[known:], tools)
        # A second continuation of one turn can't join its trajectory: the agent dropped what came after it.
        branch = SplitReason.EDITED_HISTORY if record.continued else None
        record.continued = True
        if bridged is not None:
            return bridged, branch
        rendered = self.renderer.render(messages, tools)
        if rendered[: len(ids)] == ids:
            return rendered, branch
        if branch or any(message["role"] == "assistant" for message in messages[known:]):
            return rendered, SplitReason.EDITED_HISTORY
        same_text = self.renderer.decode(rendered).startswith(self.renderer.decode(ids))
        return rendered, SplitReason.RETOKENISATION if same_text else SplitReason.TEMPLATE

    def _extended(self, keys: list[str], tools_key: str) -> _Record | None:
        """The longest earlier conversation that ``keys`` continue; of equals the latest that nobody continued."""
        fitting = [
            record
            for _, record in sorted(self._records.items())
            if record.tools == tools_key and keys[: len(record.keys)] == record.keys
        ]
        return max(reversed(fitting), key=lambda record: (len(record.keys), not record.continued), default=None)

    def _new_start(self, keys: list[str]) -> SplitReason | None:
        """Why a prompt that continues nothing starts anew; None at the episode's first call."""
        if not self._records:
            return None
        said = {
            key
            for record in self._records.values()
            for key, m in zip(record.keys, record.messages, strict=True)
            if m["role"] != "system"
        }
        edited = bool(said & set(keys)) and any(key.startswith(_ASSISTANT) for key in keys)
        return SplitReason.EDITED_HISTORY if edited else SplitReason.NEW_CONVERSATION
