"""The interface over real HTTP: the seed's two endpoints to the letter, one document for all, an answer to anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autorl_bench.scenarios import ScenarioRegistry
from autorl_bench.server import MAX_BODY, make_app
from autorl_bench.store import Role, RunState
from tests.autorl_bench.small_bench import Served, SmallBench, wait_until

GSM8K = {
    "base_model_path": "assets/models/Qwen2.5-3B-Instruct",
    "train_data_path": "assets/data/gsm8k/train.jsonl",
    "baseline_score": 62.47,
    "metric": "accuracy",
}


@pytest.fixture(scope="module")
def http(served_bench: Served):
    with httpx.Client(base_url=served_bench.address, timeout=120, trust_env=False) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def detail(response: httpx.Response) -> dict[str, Any]:
    """What every error says."""
    problem = response.json()["detail"]
    assert isinstance(problem["code"], str) and isinstance(problem["message"], str)
    return problem


# --- the seed's interface -----------------------------------------------------------------------------------------


def test_gsm8k_is_told_in_four_fields_in_order(http: httpx.Client) -> None:
    response = http.get("/scenarios/gsm8k")
    assert response.status_code == 200
    assert response.text == json.dumps(GSM8K, separators=(",", ":"))


@pytest.mark.parametrize("scenario", ScenarioRegistry().ids)
def test_every_scenario_is_told_in_the_same_four_fields(http: httpx.Client, scenario: str) -> None:
    answer = http.get(f"/scenarios/{scenario}").json()
    assert list(answer) == list(GSM8K)
    assert answer["metric"] in ("accuracy", "pass@1")
    assert 0 <= answer["baseline_score"] <= 100


def test_evaluate_answers_baseline_and_score_and_nothing_else(served_bench: Served, http: httpx.Client) -> None:
    run, token = served_bench.small.start()
    served_bench.small.model(run, mute=True)
    body = {"model_path": f"workspace/{run.id}/output/model"}
    response = http.post("/evaluate", json=body, headers=bearer(token))
    assert response.status_code == 200
    [baseline] = served_bench.small.evaluations(run.id, Role.DEV_BASELINE)
    assert response.json() == {"baseline": round(baseline.evaluation.accuracy, 2), "score": 0.0}
    assert list(response.json()) == ["baseline", "score"]


def test_the_result_file_has_two_keys(served_bench: Served, http: httpx.Client) -> None:
    run, token = served_bench.small.start()
    path = served_bench.small.model(run)
    http.post(f"/runs/{run.id}/submissions", json={"model_path": path}, headers=bearer(token)).raise_for_status()
    http.post(f"/runs/{run.id}/final", json={"submission": 1}, headers=bearer(token)).raise_for_status()
    file = served_bench.small.home.root / "results" / run.id / "feedback.json"
    wait_until(file.exists, "feedback.json")
    feedback = json.loads(file.read_text())
    assert list(feedback) == ["baseline", "score"]
    assert served_bench.small.run(run.id).state == RunState.SCORED
    [score] = served_bench.small.evaluations(run.id, Role.FINAL)
    assert feedback["score"] == round(score.evaluation.accuracy, 2) == feedback["baseline"]


# --- one document -------------------------------------------------------------------------------------------------


def _routes(router: Any) -> Iterator[tuple[str, str]]:
    """All paths with their methods, those of included routers too."""
    for route in router.routes:
        if hasattr(route, "original_router"):
            yield from _routes(route.original_router)
        else:
            yield from ((route.path, method.lower()) for method in route.methods if method != "HEAD")


def test_one_document_covers_every_path_but_its_own(small_bench: SmallBench) -> None:
    app = make_app(small_bench.bench)
    described = {(path, method) for path, methods in app.openapi()["paths"].items() for method in methods}
    undescribed = {path for path, _ in set(_routes(app)) - described}
    assert described <= set(_routes(app))
    assert undescribed == {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}
    assert {("/scenarios/{scenario_id}", "get"), ("/evaluate", "post"), ("/leaderboard/{scenario}", "get")} <= described


def test_the_document_tells_refusals_in_the_form_that_they_have(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            schema = operation["responses"]["4XX"]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Refusal"}, (path, method)
            assert "422" not in operation["responses"]


def test_agents_are_served_no_pages(served_bench: Served) -> None:
    assert httpx.get(f"{served_bench.pages}/", trust_env=False).status_code == 200
    assert httpx.get(f"{served_bench.address}/", trust_env=False).status_code == 404


def test_the_served_document_says_what_an_agent_sends(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    assert document["paths"]["/evaluate"]["post"]["requestBody"]["required"]
    fields = document["components"]["schemas"]["FourFields"]["properties"]
    assert list(fields) == list(GSM8K)


# --- refusals -----------------------------------------------------------------------------------------------------


def test_an_unknown_scenario_is_answered_with_the_known_ones(http: httpx.Client) -> None:
    response = http.get("/scenarios/gsm8")
    assert response.status_code == 404
    assert detail(response)["code"] == "unknown_scenario"
    assert "gsm8k" in detail(response)["known"] and "did you mean 'gsm8k'" in detail(response)["message"]


@pytest.mark.parametrize("path", ["/nothing", "/runs", "/scenarios/"])
def test_a_path_that_is_none_has_a_problem_of_the_same_form(http: httpx.Client, path: str) -> None:
    response = http.get(path)
    assert response.status_code in (307, 404)
    assert response.status_code == 307 or detail(response)["code"] == "not_found"


def test_a_wrong_method_has_a_problem_of_the_same_form(http: httpx.Client) -> None:
    response = http.get("/evaluate")
    assert response.status_code == 405
    assert detail(response)["code"] == "method"


@pytest.mark.parametrize("header", [{}, {"Authorization": "Basic eDp5"}, bearer("no token"), bearer("a:" + "b" * 43)])
def test_without_a_token_nothing_is_said_of_a_run(
    served_bench: Served, http: httpx.Client, header: dict[str, str]
) -> None:
    run, _ = served_bench.small.start()
    response = http.get(f"/runs/{run.id}", headers=header)
    assert response.status_code == 401
    assert "AUTORL_TOKEN" in detail(response)["message"]
    assert response.headers["www-authenticate"] == "Bearer"


def test_another_runs_address_is_refused_as_an_unknown_one_is(served_bench: Served, http: httpx.Client) -> None:
    (run, token), (other, _) = served_bench.small.start(), served_bench.small.start()
    there, nowhere = (http.get(f"/runs/{name}", headers=bearer(token)) for name in (other.id, "nobody"))
    assert there.status_code == nowhere.status_code == 401
    assert http.get(f"/runs/{run.id}", headers=bearer(token)).status_code == 200


def test_another_runs_evaluation_is_unknown(served_bench: Served, http: httpx.Client) -> None:
    (run, token), (other, theirs) = served_bench.small.start(), served_bench.small.start()
    body = {"model_path": served_bench.small.model(other)}
    asked = http.post(f"/runs/{other.id}/evaluations", json=body, headers=bearer(theirs)).json()
    response = http.get(f"/runs/{run.id}/evaluations/{asked['id']}", headers=bearer(token))
    assert response.status_code == 404
    assert detail(response)["code"] == "not_found"


def test_a_body_without_a_model_path_is_named(served_bench: Served, http: httpx.Client) -> None:
    _, token = served_bench.small.start()
    response = http.post("/evaluate", json={"path": "output/model"}, headers=bearer(token))
    assert response.status_code == 422
    assert detail(response)["code"] == "malformed"
    assert "model_path: Field required" in detail(response)["message"]


def test_a_body_without_end_is_cut_off(served_bench: Served, http: httpx.Client) -> None:
    _, token = served_bench.small.start()
    body = b'{"model_path": "' + b"x" * (MAX_BODY + 1) + b'"}'
    response = http.post("/evaluate", content=body, headers=bearer(token))
    assert response.status_code == 413
    assert detail(response)["code"] == "too_large"


def test_an_empty_path_is_refused_with_the_reason(served_bench: Served, http: httpx.Client) -> None:
    _, token = served_bench.small.start()
    response = http.post("/evaluate", json={"model_path": ""}, headers=bearer(token))
    assert response.status_code == 422
    assert detail(response)["code"] in ("bad_path", "malformed")


# --- anything -----------------------------------------------------------------------------------------------------

_TEXT = st.text(max_size=40) | st.sampled_from(["../..", "/etc/passwd", "output/model\0", "~", "\ud800", "x" * 5000])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_NUMBER = st.integers(-(2**70), 2**70)
_BODIES = {
    "/evaluate": st.fixed_dictionaries({"model_path": _TEXT}),
    "/runs/{run}/evaluations": st.fixed_dictionaries({"model_path": _TEXT, "experiment": st.none() | _NUMBER}),
    "/runs/{run}/submissions": st.fixed_dictionaries({"model_path": _TEXT}),
    "/runs/{run}/final": st.fixed_dictionaries({"submission": _NUMBER}),
    "/runs/{run}/hypotheses": st.fixed_dictionaries({"statement": _TEXT, "reason": _TEXT}),
    "/runs/{run}/experiments": st.fixed_dictionaries(
        {"hypothesis": st.just(1) | _NUMBER, "recipe": st.dictionaries(_TEXT, _JSON, max_size=3), "code_path": _TEXT}
    ),
    "/runs/{run}/experiments/1/end": st.fixed_dictionaries(
        {"state": st.sampled_from(["succeeded", "failed"]) | _TEXT, "feedback": _TEXT, "claimed_score": st.floats()}
    ),
    "/runs/{run}/usage": st.fixed_dictionaries({"agent_tokens": _NUMBER}),
}
_ANYTHING = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def _dump(body: object) -> bytes:
    """JSON as a careless client writes it: NaN, lone surrogates and all."""
    return json.dumps(body).encode()


@pytest.fixture(scope="module")
def fuzzed(served_bench: Served) -> dict[str, str]:
    run, token = served_bench.small.start()
    return {"run": run.id, "token": token}


@pytest.mark.parametrize("path", _BODIES)
def test_whatever_is_posted_is_answered_or_refused(http: httpx.Client, fuzzed: dict[str, str], path: str) -> None:
    @_ANYTHING
    @given(_BODIES[path] | _JSON)
    def post(body: object) -> None:
        headers = bearer(fuzzed["token"]) | {"Content-Type": "application/json"}
        response = http.post(path.format(run=fuzzed["run"]), content=_dump(body), headers=headers)
        assert response.status_code < 500, (body, response.text)
        assert response.is_success or detail(response)

    post()


def test_whatever_evaluation_is_asked_for_is_answered_or_refused(http: httpx.Client, fuzzed: dict[str, str]) -> None:
    @_ANYTHING
    @given(_NUMBER | st.text(max_size=8), st.floats() | _NUMBER | st.text(max_size=8))
    def get(number: object, wait: object) -> None:
        wait = "0.01" if isinstance(wait, float | int) and 0 <= wait <= 60 else str(wait)
        url = f"/runs/{fuzzed['run']}/evaluations/{quote(str(number), safe='', errors='replace')}"
        response = http.get(url, params={"wait": wait}, headers=bearer(fuzzed["token"]))
        assert response.status_code < 500, (number, wait, response.text)

    get()


def test_whatever_token_is_sent_is_refused(http: httpx.Client, fuzzed: dict[str, str]) -> None:
    @_ANYTHING
    @given(st.binary(max_size=60))
    def get(token: bytes) -> None:
        token = bytes(byte for byte in token if byte > 32 and byte != 127)
        response = http.get(f"/runs/{fuzzed['run']}", headers={b"Authorization": b"Bearer :" + token})
        assert response.status_code in (400, 401)

    get()
