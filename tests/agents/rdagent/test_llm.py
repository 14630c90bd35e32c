"""The language model's driver over real HTTP: what an endpoint does wrong is a record, and the next prompt says so."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agents.common import jsonl
from agents.common.task import Deadline
from agents.rdagent.drivers.base import DriverExhausted, Situation
from agents.rdagent.drivers.llm import LanguageModelDriver, endpoint_from
from agents.rdagent.records import Outcome, Proposal, Trial
from astune.errors import ConfigError
from tests.agents.fake_endpoint import answer
from tests.agents.rdagent.conftest import training

KEY = "sk-secret-key"


@pytest.fixture
def driver_of(make_task):
    def make(endpoint, seconds: float = 100.0, **arguments: Any):
        task = make_task(seconds=seconds)
        environment = {"OPENAI_BASE_URL": endpoint.url, "OPENAI_MODEL": "m"}
        used: list[int] = []
        settings = {"request_retries": 0, "request_seconds": 5.0} | arguments
        driver = LanguageModelDriver(endpoint_from(settings, environment), task, used.append)
        driver.used, driver.task = used, task
        return driver

    return make


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def situation(driver, details, trials=(), best=None, seconds: float = 100.0) -> Situation:
    number = max((trial.round for trial in trials), default=0) + 1
    deadline = Deadline.after(seconds, time.monotonic)
    return Situation(driver.task, details, number, list(trials), best, None, [], deadline, 3)


def tried(number: int, code: str, outcome: Outcome) -> Trial:
    return Trial(number, number, Proposal(f"hypothesis {number}", "why", code=code), outcome)


def test_an_answer_becomes_an_experiment_and_its_tokens_are_reported(endpoint, driver_of, details_of):
    driver = driver_of(endpoint([answer("print('train')", "Smaller steps help.")]))
    [proposal] = driver.propose(situation(driver, details_of("nano_gsm")))
    assert (proposal.hypothesis, proposal.code) == ("Smaller steps help.", "print('train')\n")
    assert proposal.seconds == 20
    assert driver.used == [120]
    assert driver.usage().tokens == 20
    assert driver.usage().tokens == 0


def test_the_prompt_holds_the_task_the_budget_and_the_toolbox(endpoint, driver_of, details_of):
    server = endpoint([answer("print(1)")])
    driver = driver_of(server)
    driver.propose(situation(driver, details_of("nano_gsm")))
    prompt = server.prompt(0)
    for part in ('"metric": "accuracy"', "AUTORL_OUTPUT", "PlainMathLearn", "Questions to the development split", "3."):
        assert part in prompt
    assert server.asked[0]["messages"][0]["role"] == "system"
    assert KEY not in prompt


@pytest.mark.parametrize("scenario, part", [("nano_countdown", '"method": "supervised"'), ("gsm8k", "DirectAnswer")])
def test_the_toolbox_is_the_scenarios(endpoint, driver_of, details_of, scenario, part):
    server = endpoint([answer("print(1)")])
    driver = driver_of(server)
    driver.propose(situation(driver, details_of(scenario)))
    assert part in server.prompt(0)


def test_scores_and_failures_reach_the_next_prompt(endpoint, driver_of, details_of):
    server = endpoint([answer("print(3)")])
    driver = driver_of(server)
    best = tried(1, "print('one')\n", Outcome(0.71, "On dev it scored 71.0 %."))
    crashed = tried(
        2, "print('two')\n", Outcome(None, "The script failed with status 1.", error="x", log="KeyError: 'lr'")
    )
    driver.propose(situation(driver, details_of("nano_gsm"), [best, crashed], best))
    prompt = server.prompt(0)
    assert "1. score 0.710: hypothesis 1 -> On dev it scored 71.0 %." in prompt
    assert "print('one')" in prompt
    assert "2. failed: hypothesis 2" in prompt
    assert "KeyError: 'lr'" in prompt


@pytest.mark.parametrize("broken", ["", "I would rather not.", "```python\nprint(", answer("def f(:")])
def test_an_answer_that_cannot_be_used_is_asked_for_again_with_the_reason(endpoint, driver_of, details_of, broken):
    server = endpoint([broken, answer("print('better')")])
    driver = driver_of(server)
    [proposal] = driver.propose(situation(driver, details_of("nano_gsm")))
    assert proposal.code == "print('better')\n"
    assert "could not be used" in server.prompt(1)


def test_a_script_that_has_been_run_is_not_run_again(endpoint, driver_of, details_of):
    server = endpoint([answer("print('one')"), answer("print('two')")])
    driver = driver_of(server)
    trial = tried(1, "print('one')\n", Outcome(0.5, ""))
    [proposal] = driver.propose(situation(driver, details_of("nano_gsm"), [trial], trial))
    assert proposal.code == "print('two')\n"
    assert "this very script was experiment 1" in server.prompt(1)


def test_a_round_without_a_usable_answer_is_a_record_and_the_third_in_a_row_ends_it(endpoint, driver_of, details_of):
    server = endpoint(["Sorry."])
    driver = driver_of(server)
    for _ in range(2):
        [proposal] = driver.propose(situation(driver, details_of("nano_gsm")))
        assert "there is no python block" in proposal.problem
    with pytest.raises(DriverExhausted, match="3 rounds without a usable answer"):
        driver.propose(situation(driver, details_of("nano_gsm")))
    assert len(server.asked) == 9


def test_a_server_error_is_retried_and_then_a_record(endpoint, driver_of, details_of):
    server = endpoint([500, 500, 500])
    driver = driver_of(server)
    [proposal] = driver.propose(situation(driver, details_of("nano_gsm")))
    assert "could not be asked" in proposal.problem
    assert len(server.asked) == 3


@pytest.mark.parametrize("body", [b"<html>gateway</html>", b"{}", b'{"choices": []}', b"null"])
def test_a_body_that_is_no_completion_is_a_record(endpoint, driver_of, details_of, body):
    driver = driver_of(endpoint([body]))
    [proposal] = driver.propose(situation(driver, details_of("nano_gsm")))
    assert "no chat completion" in proposal.problem


def test_a_refusal_ends_the_driver_and_does_not_show_the_key(endpoint, driver_of, details_of):
    driver = driver_of(endpoint([401]))
    with pytest.raises(DriverExhausted, match="answered 401") as caught:
        driver.propose(situation(driver, details_of("nano_gsm")))
    assert KEY not in str(caught.value)


def test_an_endpoint_that_never_answers_costs_its_time_and_no_more(endpoint, driver_of, details_of):
    driver = driver_of(endpoint([30.0]), request_seconds=0.3)
    [proposal] = driver.propose(situation(driver, details_of("nano_gsm")))
    assert "could not be asked" in proposal.problem


def test_every_answer_is_kept_for_a_replay(endpoint, driver_of, details_of):
    driver = driver_of(endpoint(["Sorry.", answer(training(0.5))]))
    driver.propose(situation(driver, details_of("nano_gsm")))
    assert [row["text"] for row in jsonl.read(driver.task.workspace / "answers.jsonl")] == [
        "Sorry.",
        answer(training(0.5)),
    ]


@pytest.mark.parametrize("missing", ["OPENAI_BASE_URL", "OPENAI_MODEL"])
def test_without_an_endpoint_the_driver_says_what_to_set(missing):
    environment = {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "OPENAI_MODEL": "m"}
    with pytest.raises(ConfigError, match="set OPENAI_BASE_URL"):
        endpoint_from({}, {name: value for name, value in environment.items() if name != missing})
