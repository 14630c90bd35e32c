"""Every method of the client against the real server, and each refusal by its code."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from pydantic import ValidationError

from astune.errors import ConfigError
from autorl_bench.client import BenchClient, BenchError
from autorl_bench.server import MAX_AT_ONCE
from autorl_bench.store import QueryState, Role, RunState, Track
from autorl_bench.store.records import Usage
from tests.autorl_bench.small_bench import N, Served, children, wait_until


def refusal(call, *arguments, **options) -> tuple[str, int]:
    with pytest.raises(BenchError) as refused:
        call(*arguments, **options)
    assert refused.value.message
    return refused.value.code, refused.value.status


# --- what anybody may ask -----------------------------------------------------------------------------------------


def test_scenarios_are_read_without_a_token(served_bench: Served) -> None:
    with served_bench.client(None) as client:
        assert {"gsm8k", "nano_gsm", "tiny"} <= set(client.scenarios())
        assert client.scenario("tiny").metric == "accuracy"
        assert client.details("tiny")["budget"]["dev_queries"] == 4


def test_details_tell_nothing_of_the_hidden_items(served_bench: Served) -> None:
    details = served_bench.client(None).details("tiny")
    assert not {"source", "seed"} & set(details)


def test_an_unknown_scenario_is_not_found(served_bench: Served) -> None:
    client = served_bench.client(None)
    assert refusal(client.scenario, "tinny") == ("unknown_scenario", 404)
    assert refusal(client.details, "tinny") == ("unknown_scenario", 404)


# --- the run ------------------------------------------------------------------------------------------------------


def test_the_status_tells_what_is_left(served_bench: Served) -> None:
    run, client = served_bench.start(seed=5)
    status = client.status()
    assert (status.id, status.scenario, status.seed, status.state) == (run.id, "tiny", 5, RunState.RUNNING)
    assert 0 < status.seconds_left <= 120
    assert (status.dev_queries_left, status.submissions_left) == (4, 3)


def test_tokens_of_the_agents_own_model_add_up(served_bench: Served) -> None:
    run, client = served_bench.start()
    client.report_tokens(5)
    client.report_tokens(7)
    assert served_bench.small.bench.used(run.id).agent_tokens == 12


def test_the_notebook_is_written_by_numbers(served_bench: Served) -> None:
    run, client = served_bench.start()
    hypothesis = client.propose("longer is better", "the loss still falls")
    experiment = client.begin(hypothesis.number, {"steps": 3}, code_path="code/train.py")
    ended = client.end(experiment.number, "succeeded", feedback="it was", claimed_score=51.5, log_path="log.txt")
    assert (hypothesis.number, experiment.number, ended.hypothesis) == (1, 1, 1)
    assert (ended.state, ended.claimed_score, ended.recipe) == ("succeeded", 51.5, {"steps": 3})
    with served_bench.small.bench.store.read() as tx:
        assert tx.notebook.experiments(run.id)[0].feedback == "it was"


def test_notes_on_what_is_not_there_are_refused(served_bench: Served) -> None:
    _, client = served_bench.start()
    assert refusal(client.begin, 1, {}) == ("conflict", 409)
    assert refusal(client.end, 1, "failed") == ("conflict", 409)


def test_an_experiment_ends_once(served_bench: Served) -> None:
    _, client = served_bench.start()
    client.begin(client.propose("it helps").number, {})
    client.end(1, "failed", feedback="out of memory")
    assert refusal(client.end, 1, "succeeded") == ("conflict", 409)


def test_what_cannot_be_sent_is_refused_before_it_is(served_bench: Served) -> None:
    _, client = served_bench.start()
    with pytest.raises(ValidationError):
        client.report_tokens(-1)


# --- tokens -------------------------------------------------------------------------------------------------------


def test_another_runs_token_opens_nothing(served_bench: Served) -> None:
    (run, token), (_, other) = served_bench.small.start(), served_bench.small.start()
    assert refusal(BenchClient(served_bench.address, other, run.id).status) == ("token", 401)
    assert refusal(BenchClient(served_bench.address, token[:-1] + "~", run.id).status) == ("token", 401)
    assert refusal(BenchClient(served_bench.address, None, run.id).feedback, "output/model") == ("token", 401)


def test_a_token_ends_with_the_agents_part(served_bench: Served) -> None:
    run, client = served_bench.start()
    served_bench.small.bench.finish(run.id)
    assert refusal(client.status) == ("token", 401)


def test_the_variables_of_a_run_make_its_client(served_bench: Served) -> None:
    run, token = served_bench.small.start()
    variables = {"AUTORL_SERVER": served_bench.address, "AUTORL_TOKEN": token, "AUTORL_RUN": run.id}
    assert BenchClient.from_environment(variables).status().id == run.id
    with pytest.raises(ConfigError, match="AUTORL_TOKEN is not set.*autorl-bench run"):
        BenchClient.from_environment({"AUTORL_SERVER": served_bench.address, "AUTORL_RUN": run.id})


# --- scores -------------------------------------------------------------------------------------------------------


def test_a_score_comes_with_interval_items_and_baseline(served_bench: Served) -> None:
    run, client = served_bench.start()
    answer = client.evaluate(served_bench.small.model(run))
    assert answer.state == QueryState.ANSWERED
    assert answer.items == N["dev"]
    assert answer.score == answer.baseline
    assert answer.low <= answer.score <= answer.high
    assert client.status().dev_queries_left == 3


def test_a_score_belongs_to_its_experiment(served_bench: Served) -> None:
    run, client = served_bench.start()
    experiment = client.begin(client.propose("it helps").number, {}).number
    asked = client.ask(served_bench.small.model(run), experiment=experiment)
    with served_bench.small.bench.store.read() as tx:
        query = tx.submissions.dev_query(asked.id)
        assert query.experiment_id == tx.notebook.experiments(run.id)[0].id


def test_the_same_model_asked_by_many_at_once_is_one_question(served_bench: Served) -> None:
    run, token = served_bench.small.start()
    served_bench.small.model(run)

    def ask(_: int) -> int:
        with served_bench.client(token) as client:
            return client.evaluate("output/model").id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert len(served_bench.small.evaluations(run.id, Role.DEV)) == 1
    assert served_bench.client(token).status().dev_queries_left == 3


def test_more_requests_than_a_run_has_places_wait_for_their_turn(served_bench: Served) -> None:
    run, token = served_bench.small.start()
    served_bench.small.model(run)
    at_once = 2 * MAX_AT_ONCE
    barrier = threading.Barrier(at_once)

    def ask(_: int) -> float:
        with served_bench.client(token) as client:
            barrier.wait()
            return client.feedback("output/model").score

    with ThreadPoolExecutor(at_once) as pool:
        assert len(set(pool.map(ask, range(at_once)))) == 1
    assert len(served_bench.small.evaluations(run.id, Role.DEV)) == 1


def test_waiting_can_be_given_up_and_the_answer_fetched_later(served_bench: Served) -> None:
    run, client = served_bench.start()
    path = served_bench.small.model(run, nudge=7e-3)
    with pytest.raises(BenchError) as late:
        client.evaluate(path, timeout=0.0)
    assert late.value.code == "timeout"
    assert client.evaluate(path).state == QueryState.ANSWERED


def test_a_spent_budget_of_questions_is_limit_reached(served_bench: Served) -> None:
    run, client = served_bench.start()
    for number in range(1, 5):
        client.ask(served_bench.small.model(run, nudge=number * 1e-3))
    path = served_bench.small.model(run, nudge=5e-3)
    assert refusal(client.evaluate, path) == ("limit_reached", 429)
    assert refusal(client.feedback, path) == ("limit_reached", 429)


def test_after_the_time_nothing_is_asked_any_more(served_bench: Served) -> None:
    run, client = served_bench.start()
    path = served_bench.small.model(run)
    served_bench.small.bench.agent_ended(run.id, 1, "interrupted", None, Usage(1000.0, 1.0))
    assert client.status().seconds_left == 0
    assert refusal(client.evaluate, path) == ("limit_reached", 429)
    assert refusal(client.submit, path) == ("limit_reached", 429)


# --- submissions --------------------------------------------------------------------------------------------------


def test_a_submission_is_numbered_hashed_and_idempotent(served_bench: Served) -> None:
    run, client = served_bench.start()
    path = served_bench.small.model(run)
    first, again = client.submit(path), client.submit(f"workspace/{run.id}/{path}")
    assert (first.number, first.digest, first.final) == (again.number, again.digest, False)
    assert first.size > 100_000


def test_a_copy_of_the_base_model_is_taken_in_and_will_be_known_as_one(served_bench: Served) -> None:
    run, client = served_bench.start()
    submitted = client.submit(served_bench.small.model(run, nudge=0.0))
    with served_bench.small.bench.store.read() as tx:
        report = tx.submissions.of_run(run.id)[submitted.number - 1].report
    assert report["provenance"]["identical"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/etc", "outside_workspace"),
        ("../../vault", "outside_workspace"),
        ("output/nothing", "not_found"),
        ("code", "no_weights"),
        ("output/pickled", "pickle"),
    ],
)
def test_a_refused_submission_says_why(served_bench: Served, path: str, code: str) -> None:
    run, client = served_bench.start()
    workspace = served_bench.small.home.workspace(run.id)
    (workspace / "code" / "config.json").write_bytes((served_bench.small.base / "config.json").read_bytes())
    served_bench.small.model(run, "output/pickled")
    (workspace / "output" / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    for call in (client.submit, client.ask, client.feedback):
        assert refusal(call, path) == (code, 422)
    assert client.status().dev_queries_left == 4


def test_after_the_final_submission_everything_is_too_late(served_bench: Served) -> None:
    run, client = served_bench.start()
    path = served_bench.small.model(run)
    number = client.submit(path).number
    assert refusal(client.declare_final, number + 1) == ("conflict", 409)
    assert client.declare_final(number).state == RunState.SUBMITTED
    for call, argument in ((client.declare_final, number), (client.submit, path), (client.ask, path)):
        assert refusal(call, argument) == ("conflict", 409)
    assert refusal(client.propose, "too late") == ("conflict", 409)


def test_a_replayed_run_hands_in_no_weights(served_bench: Served) -> None:
    run, client = served_bench.start(track=Track.REPLAY)
    path = served_bench.small.model(run)
    assert refusal(client.submit, path) == ("conflict", 409)
    assert refusal(client.declare_final, 1) == ("conflict", 409)
    assert client.evaluate(path).state == QueryState.ANSWERED


# --- a server that is gone ----------------------------------------------------------------------------------------


def test_nobody_at_the_address_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        address = f"http://127.0.0.1:{reserved.getsockname()[1]}"
    client = BenchClient(address, "a:b", patience=0.3)
    assert refusal(client.status) == ("unreachable", 0)


def test_an_answer_that_is_not_the_benchmarks_is_quoted(served_bench: Served) -> None:
    client = BenchClient(f"{served_bench.address}/pages", "a:b")
    assert refusal(client.scenarios) == ("not_found", 404)


@pytest.mark.slow
def test_a_server_that_is_killed_costs_a_waiting_agent_nothing(served_bench: Served) -> None:
    run, token = served_bench.small.start()
    path = served_bench.small.model(run, nudge=9e-3)
    with ThreadPoolExecutor(2) as pool:
        waiting = [
            pool.submit(served_bench.client(token).evaluate, path),
            pool.submit(served_bench.client(token).feedback, path),
        ]
        wait_until(lambda: served_bench.small.jobs(run.id), "the question is queued")
        [server] = children(os.getpid(), "serve", str(served_bench.small.home.root))
        server.kill()
        server.wait()
        answers = [future.result() for future in waiting]
    assert answers[0].score == answers[1].score
    assert len(served_bench.small.evaluations(run.id, Role.DEV)) == 1
    assert httpx.get(f"{served_bench.address}/healthz", timeout=120, trust_env=False).status_code == 200
