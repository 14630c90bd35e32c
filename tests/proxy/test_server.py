"""The OpenAI-compatible endpoint, with OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import httpx
import openai
import pytest

from astune.errors import EpisodeTimeout
from astune.proxy.server import ModelServer
from astune.rollout.chat import ChatRenderer, pick_renderer
from astune.rollout.session import ChatSession
from astune.rollout.types import Sampling
from astune.workflow.astune_proxy import AstuneProxy
from tests.rollout.fake_engine import CODE_TOOL, FakeScriptedEngine, Script, call_text, small_tokenizer

USER = {"role": "user", "content": "How many?"}
SCRIPT = [call_text("print(18)"), "The answer is \\boxed{18}."]


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    return pick_renderer(small_tokenizer())


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(blocked_seconds=0.5) as running:
        yield running


def proxy_of(
    renderer: ChatRenderer, server: ModelServer, script: Script | list[str] | None = None, max_context: int = 4096
) -> AstuneProxy:
    engine = FakeScriptedEngine(renderer.tokenizer, script or SCRIPT, max_context=max_context)
    return AstuneProxy(ChatSession(engine, renderer, Sampling(max_tokens=512)), server)


@pytest.fixture
async def proxy(renderer: ChatRenderer, server: ModelServer) -> AstuneProxy:
    return proxy_of(renderer, server)


@pytest.fixture
async def client(proxy: AstuneProxy) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client_of(proxy) as made:
        yield made


def client_of(proxy: AstuneProxy) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=proxy.base_url, api_key=proxy.api_key, max_retries=0)


async def test_a_tool_conversation_over_http_is_one_trajectory(client: openai.AsyncOpenAI, proxy: AstuneProxy) -> None:
    first = await client.chat.completions.create(model="astune", messages=[USER], tools=[CODE_TOOL])
    answer = first.choices[0].message
    assert answer.content == "Compute it."
    assert answer.tool_calls is not None
    [call] = answer.tool_calls
    assert json.loads(call.function.arguments) == {"code": "print(18)"}
    observation = {"role": "tool", "tool_call_id": call.id, "content": "18"}
    history = [USER, answer.model_dump(exclude_none=True), observation]
    second = await client.chat.completions.create(model="astune", messages=history, tools=[CODE_TOOL])
    assert [c.choices[0].finish_reason for c in (first, second)] == ["tool_calls", "stop"]
    assert second.choices[0].message.content == "The answer is \\boxed{18}."
    assert len(proxy.session.trajectories()[0]) == 1


async def test_usage_counts_the_recorded_tokens(client: openai.AsyncOpenAI, proxy: AstuneProxy) -> None:
    response = await client.chat.completions.create(model="astune", messages=[USER])
    [turn] = proxy.session.turns
    assert response.usage is not None
    assert response.usage.prompt_tokens == len(turn.prompt_ids)
    assert response.usage.completion_tokens == len(turn.completion_ids)


async def test_logprobs_are_those_of_the_recorded_tokens(client: openai.AsyncOpenAI, proxy: AstuneProxy) -> None:
    response = await client.chat.completions.create(model="astune", messages=[USER], logprobs=True)
    [turn] = proxy.session.turns
    logprobs = response.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert [entry.logprob for entry in logprobs.content] == turn.logprobs


async def test_streaming_gives_the_same_answer(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="astune", messages=[USER], tools=[CODE_TOOL], stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "Compute it."
    [call] = [call for delta in deltas for call in delta.tool_calls or ()]
    assert call.function is not None and call.function.name == "execute_python_code"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 0
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "tool_calls"


async def test_a_malformed_call_keeps_its_raw_text_and_its_trajectory(
    renderer: ChatRenderer, server: ModelServer
) -> None:
    proxy = proxy_of(renderer, server, ['A.\n<tool_call>\n{"name": oops}\n</tool_call>', "B"])
    async with client_of(proxy) as client:
        first = await client.chat.completions.create(model="astune", messages=[USER], tools=[CODE_TOOL])
        answer = first.choices[0].message
        assert answer.tool_calls is not None
        [call] = answer.tool_calls
        assert (call.function.name, call.function.arguments) == ("invalid_tool_call", '{"name": oops}')
        history = [
            USER,
            answer.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "?"},
        ]
        await client.chat.completions.create(model="astune", messages=history, tools=[CODE_TOOL])
    assert len(proxy.session.trajectories()[0]) == 1


async def test_models_are_listed(client: openai.AsyncOpenAI) -> None:
    assert [model.id for model in (await client.models.list()).data] == ["astune"]


async def test_a_full_context_is_openais_error(renderer: ChatRenderer, server: ModelServer) -> None:
    async with client_of(proxy_of(renderer, server, max_context=8)) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="astune", messages=[USER])
    assert caught.value.code == "context_length_exceeded"


async def test_an_unknown_key_is_refused(server: ModelServer) -> None:
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="sk-other", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError, match="unknown API key"):
            await client.models.list()


async def test_the_key_of_an_ended_episode_is_refused(client: openai.AsyncOpenAI, proxy: AstuneProxy) -> None:
    proxy.close()
    with pytest.raises(openai.AuthenticationError):
        await client.models.list()


async def test_an_episode_that_ends_forgets_the_keys_of_all_its_agents(proxy: AstuneProxy) -> None:
    critic = proxy.as_agent("critic")
    async with client_of(critic) as client:
        proxy.close()
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_a_clients_temperature_does_not_move_the_runs_sampling(
    client: openai.AsyncOpenAI, proxy: AstuneProxy
) -> None:
    await client.chat.completions.create(model="astune", messages=[USER], temperature=0.2, max_tokens=7)
    engine = proxy.session.engine
    assert isinstance(engine, FakeScriptedEngine)
    assert [(s.temperature, s.max_tokens) for s in engine.samplings] == [(1.0, 7)]


async def test_an_engine_that_breaks_is_a_server_error(renderer: ChatRenderer, server: ModelServer) -> None:
    proxy = proxy_of(renderer, server, lambda *_: str(1 / 0))
    async with client_of(proxy) as client:
        with pytest.raises(openai.InternalServerError, match="division by zero"):
            await client.chat.completions.create(model="astune", messages=[USER])


async def test_an_ended_episode_says_why(client: openai.AsyncOpenAI, proxy: AstuneProxy) -> None:
    proxy.session.close(EpisodeTimeout("the episode is over"))
    with pytest.raises(openai.BadRequestError, match="the episode is over"):
        await client.chat.completions.create(model="astune", messages=[USER])


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"n": 2}, "n"),
        ({"stop": ["x"]}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
async def test_what_the_endpoint_does_not_offer_is_refused_by_name(
    client: openai.AsyncOpenAI, asked: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="astune", messages=[USER], extra_body=asked)
    assert caught.value.param == param


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": [{"role": "robot"}]}', b'{"messages": 3}', b"{}"])
async def test_a_broken_request_is_a_json_error(proxy: AstuneProxy, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {proxy.api_key}"}
    async with httpx.AsyncClient() as client:
        response = await client.post(f"{proxy.base_url}/chat/completions", content=body, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_episodes_are_told_apart_by_their_keys(renderer: ChatRenderer, server: ModelServer) -> None:
    proxies = [proxy_of(renderer, server, [f"I am {n}."]) for n in range(8)]

    async def ask(proxy: AstuneProxy) -> str | None:
        async with client_of(proxy) as client:
            response = await client.chat.completions.create(model="astune", messages=[USER])
        return response.choices[0].message.content

    assert await asyncio.gather(*map(ask, proxies)) == [f"I am {n}." for n in range(8)]


async def test_a_client_that_blocks_the_event_loop_is_told_so(proxy: AstuneProxy) -> None:
    client = openai.OpenAI(base_url=proxy.base_url, api_key=proxy.api_key, max_retries=0)
    with client, pytest.raises(openai.InternalServerError, match="event loop is blocked"):
        client.chat.completions.create(model="astune", messages=[USER])


async def test_a_blocking_client_works_in_a_thread(proxy: AstuneProxy) -> None:
    def ask() -> str | None:
        with openai.OpenAI(base_url=proxy.base_url, api_key=proxy.api_key, max_retries=0) as client:
            return client.chat.completions.create(model="astune", messages=[USER]).choices[0].message.content

    assert await asyncio.to_thread(ask) == "Compute it."


def test_a_stopped_server_has_no_address() -> None:
    server = ModelServer()
    server.start()
    server.stop()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.base_url
