"""The HTTP sampler: on the model's own endpoint, and on one that fails by a script."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from astune.errors import ConfigError, EngineError
from astune.proxy.server import ModelServer
from astune.refine.samplers import OpenAISampler
from astune.refine.types import SampleRequest
from astune.rollout.chat import pick_renderer
from astune.rollout.session import ChatSession
from astune.rollout.types import Sampling
from astune.workflow.astune_proxy import AstuneProxy
from tests.rollout.fake_engine import FakeScriptedEngine, small_tokenizer

Answer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


class ScriptedEndpoint:
    """A chat completions endpoint that answers as ``answer`` says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.raw: Response | None = None
        self.answer: Answer = said("18")
        self.now = self.most = 0
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def complete(body: dict[str, Any]) -> Response:
            self.asked.append(body)
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.02)
            self.now -= 1
            if self.raw is not None:
                return self.raw
            status, content = self.answer(body)
            return JSONResponse(content, status)

        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def sampler(self, **options: Any) -> OpenAISampler:
        url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        return OpenAISampler(url, "m", api_key="k", **options)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


def said(text: str | None, reason: str = "stop", **message: Any) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": reason}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    return lambda _: (200, body)


def refused(status: int, code: str = "refused") -> Answer:
    return lambda _: (status, {"error": {"message": f"error {status}", "code": code}})


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    made = ScriptedEndpoint()
    yield made
    made.stop()


def request(row: int = 0) -> SampleRequest:
    return SampleRequest("critique", [{"role": "user", "content": f"Question {row}?"}], row, 1)


async def test_a_served_model_is_sampled_with_its_token_counts_and_log_probabilities():
    tokenizer = small_tokenizer()
    engine = FakeScriptedEngine(tokenizer, ["The answer is 18."])
    with ModelServer() as server:
        proxy = AstuneProxy(ChatSession(engine, pick_renderer(tokenizer), Sampling(max_tokens=64)), server)
        sampler = OpenAISampler(proxy.base_url, "astune", api_key=proxy.api_key, logprobs=True, max_retries=0)
        [sample] = await sampler.asample([request()])
        sampler.close()
    [turn] = proxy.session.turns
    assert sample.text == "The answer is 18."
    assert sample.completion_ids == []
    assert sample.tokens == len(turn.completion_ids)
    assert sample.logprobs == pytest.approx(turn.logprobs)


def test_samples_come_in_the_order_of_their_requests(endpoint: ScriptedEndpoint):
    endpoint.answer = lambda body: said(body["messages"][0]["content"])(body)
    samples = endpoint.sampler().sample([request(row) for row in range(6)])
    assert [sample.text for sample in samples] == [f"Question {row}?" for row in range(6)]


def test_no_more_requests_are_in_flight_than_allowed(endpoint: ScriptedEndpoint):
    endpoint.sampler(concurrency=2).sample([request(row) for row in range(7)])
    assert endpoint.most == 2


def test_each_request_sends_a_seed_of_its_own_that_the_run_repeats(endpoint: ScriptedEndpoint):
    for _ in range(2):
        endpoint.sampler(seed=5).sample([request(0)])
        endpoint.sampler(seed=5).sample([request(1)])
    seeds = [body["seed"] for body in endpoint.asked]
    assert seeds[:2] == seeds[2:]
    assert seeds[0] != seeds[1]


def test_a_server_that_fails_once_is_asked_again(endpoint: ScriptedEndpoint):
    answers = iter([refused(500), said("18")])
    endpoint.answer = lambda body: next(answers)(body)
    assert [sample.text for sample in endpoint.sampler().sample([request()])] == ["18"]


def test_a_server_that_goes_on_failing_is_an_engine_error(endpoint: ScriptedEndpoint):
    endpoint.answer = refused(500)
    with pytest.raises(EngineError, match="could not be asked"):
        endpoint.sampler(max_retries=1).sample([request()])
    assert len(endpoint.asked) == 2


def test_a_prompt_that_does_not_fit_is_a_sample_with_an_error(endpoint: ScriptedEndpoint):
    endpoint.answer = refused(400, "context_length_exceeded")
    [sample] = endpoint.sampler().sample([request()])
    assert sample.error is not None
    assert sample.error.startswith("context_overflow: ")


@pytest.mark.parametrize("status", [400, 401, 404])
def test_what_the_endpoint_refuses_is_the_users_to_mend(endpoint: ScriptedEndpoint, status: int):
    endpoint.answer = refused(status)
    with pytest.raises(ConfigError, match=f"error {status}"):
        endpoint.sampler().sample([request()])


def test_an_answer_without_usage_log_probabilities_or_text_is_an_empty_sample(endpoint: ScriptedEndpoint):
    endpoint.answer = said(None, "length")
    [sample] = endpoint.sampler(logprobs=True).sample([request()])
    assert (sample.text, sample.logprobs, sample.tokens, sample.truncated) == ("", None, 0, True)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("{", "application/json"),
        ("<html>", "text/html"),
        ("{}", "application/json"),
        ('{"choices": []}', "application/json"),
    ],
    ids=["broken JSON", "a page", "no choices", "empty choices"],
)
def test_an_answer_that_is_no_chat_completion_is_an_engine_error(endpoint: ScriptedEndpoint, content: str, kind: str):
    endpoint.raw = Response(content, media_type=kind)
    with pytest.raises(EngineError, match="no chat completion"):
        endpoint.sampler().sample([request()])


def test_thoughts_that_the_server_has_taken_out_are_put_back(endpoint: ScriptedEndpoint):
    endpoint.answer = said("It is wrong.", reasoning_content="6 * 4 = 24.")
    [sample] = endpoint.sampler().sample([request()])
    assert sample.text == "<think>6 * 4 = 24.</think>\nIt is wrong."


def test_no_endpoint_is_an_engine_error():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    sampler = OpenAISampler(f"http://127.0.0.1:{port}/v1", "m", api_key="k", max_retries=0)
    with pytest.raises(EngineError, match=f"127.0.0.1:{port}"):
        sampler.sample([request()])


def test_a_key_that_is_nowhere_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        OpenAISampler("http://127.0.0.1:1/v1", "m")


def test_a_concurrency_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="concurrency is 0"):
        OpenAISampler("http://127.0.0.1:1/v1", "m", api_key="k", concurrency=0)
