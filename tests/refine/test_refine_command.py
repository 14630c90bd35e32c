"""`astuner refine` as a user meets it: on the bundled model, on an endpoint over HTTP, and with bad input."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from astune.cli import main
from astune.refine.memory import EpisodicMemory
from astune.refine.replay import Record

QUESTION = "Tom has 3 apples and buys 4 more. How many apples?"
KEY = "sk-very-secret-0123456789"


class FakeScriptedEndpoint:
    """Chat completions over HTTP: critiques approve the second attempt. Fails ``broken`` times first.

    The key is refused, and quoted, after ``valid_for`` requests.
    """

    def __init__(self) -> None:
        self.broken, self.valid_for = 0, 99
        self.answers = ["\\boxed{8}", "\\boxed{7}"]
        self.requests: list[tuple[str, dict[str, Any]]] = []
        app = FastAPI()
        app.add_route("/v1/chat/completions", self._complete, methods=["POST"])
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    async def _complete(self, request: Request) -> JSONResponse:
        key = request.headers["authorization"].removeprefix("Bearer ")
        body = await request.json()
        self.requests.append((key, body))
        if key != KEY or len(self.requests) > self.valid_for:
            return JSONResponse({"error": {"message": f"Incorrect API key: {key}"}}, 401)
        if self.broken > 0:
            self.broken -= 1
            return JSONResponse({"error": {"message": "overloaded"}}, 503, {"retry-after-ms": "1"})
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": self._text(body)}}
        usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
        return JSONResponse({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice],
                             "usage": usage})  # fmt: skip

    def _text(self, body: dict[str, Any]) -> str:
        system = body["messages"][0]["content"]
        if "critical reviewer" in system:
            return "It is correct." if "boxed{7}" in body["messages"][-1]["content"] else "It is wrong."
        return self.answers["problem solver" in system]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeScriptedEndpoint]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoint = FakeScriptedEndpoint()
    yield endpoint
    endpoint.stop()


def refine(*arguments: object) -> int:
    return main(["refine", "--question", QUESTION, *map(str, arguments)])


class TestEndpoint:
    def test_it_shows_attempts_critiques_and_the_answer(self, endpoint, capsys):
        assert refine("--base-url", endpoint.url, "--model", "m", "--strategy", "verdict_gated") == 0
        shown = capsys.readouterr().out
        for words in [
            "verdict_gated on m", "round 1", "\\boxed{8}", "It is wrong.", "the critic says wrong", "round 2",
            "answer (attempt 2; ended: the critic is satisfied)", "40 tokens sampled, 80 read",
        ]:  # fmt: skip
            assert words in shown

    def test_scores_and_the_best_so_far_are_shown(self, endpoint, capsys):
        refine("--base-url", endpoint.url, "--model", "m", "--strategy", "best_of_n", "--rounds", 2)
        assert "best so far: attempt 1, score 0.00" in capsys.readouterr().out

    def test_json_is_one_document_with_answer_usage_and_record(self, endpoint, capsys):
        refine("--base-url", endpoint.url, "--model", "m", "--json", "--rounds", 2)
        document = json.loads(capsys.readouterr().out)
        assert document["answer"] == "\\boxed{7}"
        assert document["usage"] == {"tokens": 30, "prompt_tokens": 60, "cost": 0.0}
        assert len(document["record"]["rounds"]) == 2

    def test_a_server_that_is_overloaded_is_asked_again_and_the_model_once(self, endpoint, capsys):
        endpoint.broken = 2
        assert refine("--base-url", endpoint.url, "--model", "m", "--rounds", 1, "--json") == 0
        assert json.loads(capsys.readouterr().out)["record"]["rounds"][0]["attempts"][0]["number"] == 1
        assert len(endpoint.requests) == 3

    def test_an_empty_answer_is_not_asked_for_again(self, endpoint, capsys):
        endpoint.answers[0] = ""
        assert refine("--base-url", endpoint.url, "--model", "m") == 1
        assert len(endpoint.requests) == 1
        assert "the answer is empty" in capsys.readouterr().err

    def test_a_cost_budget_ends_it(self, endpoint, capsys):
        prices = ["--prices", 0, 1_000_000, "--budget-cost", 15]
        refine("--base-url", endpoint.url, "--model", "m", "--rounds", 9, *prices, "--json")
        assert json.loads(capsys.readouterr().out)["record"]["stopped"] == "cost 15 reached"

    def test_a_judge_elsewhere_scores(self, endpoint, capsys):
        options = ["--strategy", "independent_scorer", "--judge", "j", "--judge-base-url", endpoint.url]
        assert refine("--base-url", endpoint.url, "--model", "m", *options) == 0
        assert [body["model"] for _, body in endpoint.requests] == ["m", "j", "m", "j"]

    def test_a_refused_key_is_told_without_the_key(self, endpoint, capsys, monkeypatch):
        monkeypatch.setenv("OTHER_KEY", "sk-wrong-9876543210")
        assert refine("--base-url", endpoint.url, "--model", "m", "--api-key-env", "OTHER_KEY") == 2
        told = "".join(capsys.readouterr())
        assert "check its address, the model's name and the API key" in told
        assert "sk-wrong-9876543210" not in told

    def test_no_key_is_written_to_the_record_even_if_the_server_quotes_it(self, endpoint, tmp_path):
        endpoint.valid_for = 1
        assert refine("--base-url", endpoint.url, "--model", "m", "--record", tmp_path / "record.json") == 0
        record = (tmp_path / "record.json").read_text()
        assert "Incorrect API key: [secret]" in record
        assert KEY not in record

    def test_a_recorded_run_is_shown_again_without_the_endpoint(self, endpoint, tmp_path, capsys):
        options = ["--base-url", endpoint.url, "--model", "m", "--strategy", "verdict_gated", "--budget-tokens", 500]
        refine(*options, "--record", tmp_path / "record.json")
        first, asked = capsys.readouterr().out, len(endpoint.requests)
        assert main(["refine", "--replay", str(tmp_path / "record.json")]) == 0
        assert capsys.readouterr().out == f"replay of {first}"
        assert len(endpoint.requests) == asked


class TestBundledModel:
    def test_a_memory_file_outlives_the_run(self, tmp_path, capsys):
        path = tmp_path / "memory.sqlite"
        assert refine("--strategy", "reflexion", "--rounds", 2, "--max-tokens", 48, "--memory", path) == 0
        with EpisodicMemory(path) as memory:
            assert all(lesson.question == QUESTION for lesson in memory.recent(9))

    def test_the_record_holds_what_was_asked(self, tmp_path, capsys):
        refine("--strategy", "self_consistency", "--rounds", 2, "--max-tokens", 48, "--record", tmp_path / "r.json")
        about = Record.load(tmp_path / "r.json").about
        assert (about["question"], about["strategy"], about["model"]) == (QUESTION, "self_consistency", "nano_refine")


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--strategy", "best_of"], "did you mean 'best_of_n'?"),
            (["--strategy", "xyz"], "the strategies are self_refine, "),
            (["--rounds", "0"], "--rounds is 0: give at least 1"),
            (["--max-tokens", "0"], "--max-tokens is 0"),
            (["--temperature", "-1"], "--temperature is -1.0"),
            (["--temperature", "nan"], "--temperature is nan"),
            (["--budget-tokens", "0"], "token budget is 0"),
            (["--budget-cost", "1"], "--budget-cost needs --prices"),
            (["--strategy", "independent_scorer"], "needs a second model: name one with --judge"),
            (["--memory", "m.sqlite"], "--memory is for --strategy reflexion"),
            (["--base-url", "http://127.0.0.1:9/v1"], "--base-url needs --model NAME"),
            (["--judge-base-url", "http://127.0.0.1:9/v1"], "--judge-base-url needs --judge NAME"),
            (["--model", "./nowhere"], "model folder ./nowhere does not exist"),
            (["--replay", "nowhere.json"], "record nowhere.json cannot be read"),
        ],
    )
    def test_it_is_told_in_one_line_and_exits_with_2(self, arguments, says, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert refine(*arguments) == 2
        assert says in capsys.readouterr().err

    def test_a_question_is_needed(self, capsys):
        assert main(["refine"]) == 2
        assert "--question is missing" in capsys.readouterr().err

    def test_a_question_that_does_not_fit_the_model_is_told(self, capsys):
        assert main(["refine", "--question", "How many? " * 1000]) == 2
        told = capsys.readouterr().err
        assert "the question is too long" in told
        assert "shorten it, or take another --model" in told

    def test_a_key_is_needed_for_an_endpoint(self, capsys, monkeypatch):
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        assert refine("--base-url", "http://127.0.0.1:9/v1", "--model", "m") == 2
        assert "the environment variable OPENAI_API_KEY is not set" in capsys.readouterr().err

    def test_an_address_without_a_scheme_is_refused(self, capsys, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        assert refine("--base-url", "localhost:8000", "--model", "m") == 2
        assert "give http://HOST:PORT/v1" in capsys.readouterr().err

    @pytest.mark.slow
    def test_an_endpoint_that_is_not_there_is_named(self, capsys, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        assert refine("--base-url", "http://127.0.0.1:9/v1", "--model", "m") == 1
        assert "endpoint http://127.0.0.1:9/v1 could not be asked: Connection error." in capsys.readouterr().err

    def test_a_memory_of_another_version_is_refused(self, tmp_path, capsys):
        path = tmp_path / "memory.sqlite"
        with EpisodicMemory(path) as memory:
            memory._connection.execute("PRAGMA user_version = 2")
        assert refine("--strategy", "reflexion", "--memory", path) == 2
        assert "memory.sqlite has version 2" in capsys.readouterr().err

    def test_help_names_every_strategy(self, capsys):
        from astune.refine.strategies import STRATEGIES

        with pytest.raises(SystemExit):
            main(["refine", "--help"])
        shown = capsys.readouterr().out
        assert all(name in shown for name in STRATEGIES)
