"""The managed model that a workflow is given: one object, three doors, one recorder behind them.

It is an AgentScope chat model (``ReActAgent(model=astune_proxy)``), the place where a workflow leaves
what the judge needs (``update_judge_input_dictionary``), and the source of a ``base_url`` and an
``api_key`` for frameworks that speak OpenAI's protocol. Each call, through any door, becomes one Turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from astune.rollout.chat import Tools
from astune.rollout.messages import INVALID_TOOL_CALL, Message
from astune.rollout.session import ChatSession
from astune.trace import Turn

if TYPE_CHECKING:
    from agentscope.model import ChatResponse

    from astune.proxy.server import ModelServer


class AstuneProxy:
    """One episode's model.

    Args:
        session: the episode's recorder.
        server: where the OpenAI-compatible endpoint lives; started when ``base_url`` is first read.
        agent: name under which this proxy's calls are recorded.
    """

    #: AgentScope reads this: one answer a call, no stream of chunks.
    stream = False

    def __init__(self, session: ChatSession, server: ModelServer | None = None, agent: str = "agent") -> None:
        self.session = session
        self.agent = agent
        self.model_name = "astune"
        self.judge_input: dict[str, Any] = {}
        self._server = server
        self._api_key: str | None = None
        self._loop = _running_loop()
        self._others: list[AstuneProxy] = []

    def as_agent(self, name: str) -> AstuneProxy:
        """Returns a proxy of the same episode whose calls are recorded under ``name``."""
        other = AstuneProxy(self.session, self._server, name)
        other.judge_input = self.judge_input
        self._others.append(other)
        return other

    def update_judge_input_dictionary(self, **fields: Any) -> None:
        """Registers what the judge reads, such as ``final_answer``."""
        self.judge_input.update(fields)

    async def chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Tools | None = None, *, max_tokens: int | None = None
    ) -> tuple[Message, Turn]:
        """Returns the assistant's answer and its Turn. All doors end here.

        The answer is ``{"role", "content", "tool_calls": [{"name", "arguments", "status"}]}``; a call that did
        not parse has the name ``invalid_tool_call``. ``max_tokens`` can lower the run's limit.

        Raises:
            MessageError: the messages cannot be rendered.
            EpisodeError: the context is full, or the episode is over.
        """
        return await self.session.chat(messages, tools, agent=self.agent, max_tokens=max_tokens)

    async def __call__(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Tools | None = None,
        tool_choice: str | None = None,
        structured_model: Any | None = None,
        *,
        max_tokens: int | None = None,
        **ignored: Any,
    ) -> ChatResponse:
        """AgentScope's door.

        ``tool_choice``, ``temperature`` and the like are accepted and change nothing: the policy is sampled as
        the run says, so that what is recorded is what it does.

        Raises:
            NotImplementedError: ``structured_model`` is asked of the model itself; ``ReActAgent.reply`` does
                structured output with a tool instead.
        """
        if structured_model is not None:
            raise NotImplementedError("astune_proxy samples freely: pass structured_model to agent.reply(...) instead")
        from agentscope.message import TextBlock, ToolUseBlock
        from agentscope.model import ChatResponse
        from agentscope.model._model_usage import ChatUsage

        before = self.session.model_seconds
        answer, turn = await self.chat(messages, tools, max_tokens=max_tokens)
        blocks: list[Any] = [TextBlock(type="text", text=answer["content"])] if answer["content"] else []
        for call in answer.get("tool_calls", ()):
            arguments = {"raw": call["arguments"]} if call["name"] == INVALID_TOOL_CALL else call["arguments"]
            blocks.append(
                ToolUseBlock(type="tool_use", id=self.session.next_call_id(), name=call["name"], input=arguments)
            )
        usage = ChatUsage(len(turn.prompt_ids), len(turn.completion_ids), self.session.model_seconds - before)
        return ChatResponse(content=blocks, usage=usage)

    @property
    def base_url(self) -> str:
        """Address of the OpenAI-compatible endpoint, ``http://127.0.0.1:PORT/v1``.

        Call it from a coroutine (``AsyncOpenAI``) or a thread: a blocking client would wait for itself.

        Raises:
            RuntimeError: the episode runs without an endpoint.
        """
        return self._endpoint().base_url

    @property
    def api_key(self) -> str:
        """The key that leads the endpoint to this episode."""
        if self._api_key is None:
            self._api_key = self._endpoint().register(self, self._loop)
        return self._api_key

    def close(self) -> None:
        """Forgets the episode's keys; the endpoint answers 401 to them from now on."""
        if self._api_key is not None and self._server is not None:
            self._server.unregister(self._api_key)
            self._api_key = None
        for other in self._others:
            other.close()

    def _endpoint(self) -> ModelServer:
        if self._server is None:
            raise RuntimeError("this episode has no HTTP endpoint: give the EpisodeRunner a ModelServer")
        self._server.start()
        return self._server


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
