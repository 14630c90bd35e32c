"""The pages as a server gives them: what they show, what they never show, and that an agent's words stay words."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from fastapi.testclient import TestClient

from autorl_bench.scenarios import ScenarioRegistry
from autorl_bench.store import ExperimentState, RunState
from autorl_bench.store.tokens import new_token
from autorl_bench.submission.findings import FlagCode
from autorl_bench.types import Flag, Reason
from autorl_bench.web.pages import make_board_app
from autorl_bench.web.results import Results
from autorl_bench.web.run_view import MAX_EXPERIMENTS, read_run
from tests.autorl_bench.web.demo import SECRET, WARM, Demo, Step

EVIL = """</script></style><img src=x onerror=alert(1)>"><svg/onload=alert(1)>'{{7*7}}"""


class Parsed(HTMLParser):
    """Start tags with attributes, the text, and what stands in code blocks."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def attributes(self, name: str) -> list[str]:
        return [values[name] or "" for _, values in self.tags if name in values]


def client_of(demo: Demo) -> TestClient:
    return TestClient(make_board_app(demo.store, ScenarioRegistry(), demo.home), raise_server_exceptions=True)


@pytest.fixture(scope="module")
def client(demo: Demo) -> TestClient:
    return client_of(demo)


def page(client: TestClient, path: str) -> Parsed:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return Parsed(answer.text)


def run_ids(demo: Demo) -> list[str]:
    with demo.store.read() as tx:
        return [run.id for run in tx.runs.all()]


def every_path(demo: Demo) -> list[str]:
    return [
        "/",
        "/boards/nano_gsm",
        "/board-scenarios/nano_gsm",
        *(f"/board-runs/{run_id}" for run_id in run_ids(demo)),
    ]


def test_the_first_page_leads_to_every_board_and_scenario(client: TestClient):
    links = page(client, "/").attributes("href")
    assert "boards/nano_gsm" in links and "board-scenarios/gsm8k" in links


def test_a_board_shows_each_agent_with_interval_and_rank(client: TestClient):
    text = page(client, "/boards/nano_gsm").text
    for shown in ("rdagent", "+40.0", "+36.2 to +44.1", "tied", "no rank: 1 of 3 runs flagged", "7 min 4 s", "1.09"):
        assert shown in text


def test_a_board_of_a_scenario_without_runs_says_so(client: TestClient):
    assert "Nobody has run this scenario yet" in page(client, "/boards/gsm8k").text


def test_a_run_shows_what_was_claimed_beside_what_was_measured(client: TestClient, demo: Demo):
    text = page(client, f"/board-runs/{run_ids(demo)[0]}").text
    for shown in (
        "measured on dev 61.0 %",
        "claimed by the agent 66.0 %",
        "trainer.learning_rate 0.0005",
        "reward 0.400",
    ):
        assert shown in text
    assert "GRPO on the base model, with the recipe" in text and "tried experiment 1" in text


def test_a_run_shows_the_gap_between_dev_and_test(client: TestClient, demo: Demo):
    text = page(client, f"/board-runs/{run_ids(demo)[0]}").text
    assert "+3.0" in text and "the tested model scores more on dev than on test; 95 % interval −5.9 to +10.5" in text


def test_a_flagged_run_shows_its_evidence_and_an_invalid_one_its_reason(client: TestClient, demo: Demo):
    flagged, invalid = run_ids(demo)[6:8]
    assert "14 of 200 test problems stand word for word" in page(client, f"/board-runs/{flagged}").text
    assert "lm_head.weight holds NaN" in page(client, f"/board-runs/{invalid}").text


def test_a_scenario_shows_what_is_asked(client: TestClient):
    text = page(client, "/board-scenarios/nano_gsm").text
    assert "assets/models/nano" in text and "10 min" in text and "at most 192 tokens" in text
    assert "20261" not in text, "the seed draws dev"


@pytest.mark.parametrize(
    "path", ["/boards/nope", "/board-runs/nope", "/board-scenarios/nope", "/board-runs/..%2Fvault"]
)
def test_an_unknown_page_is_not_found(client: TestClient, path: str):
    assert client.get(path).status_code == 404


def test_an_unknown_leaderboard_names_those_that_there_are(client: TestClient):
    answer = client.get("/leaderboard/nope")
    assert answer.status_code == 404 and "nano_gsm" in answer.json()["detail"]["known"]
    assert client.get("/leaderboard/nano_gsm").json()["boards"][0]["track"] == "weights"


# --- what is never shown ----------------------------------------------------------------------------------------


def test_no_page_shows_hidden_items_or_completions(client: TestClient, demo: Demo):
    for path in [*every_path(demo), "/leaderboard/nano_gsm"]:
        answer = client.get(path).text
        for hidden in (SECRET, "HIDDEN-ID", "-1-17", "draw-1", "vault/"):
            assert hidden not in answer, f"{hidden} on {path}"


def test_a_run_that_goes_on_shows_no_code_no_output_and_no_findings(empty: Demo):
    run_id = empty.start("rdagent", 1)
    empty.work(run_id, [WARM])
    empty.submit(run_id)
    empty.flag(run_id, FlagCode.TEST_ITEMS_IN_WORKSPACE, "14 of 200 test problems found", test_found=14)
    client = client_of(empty)
    text = page(client, f"/board-runs/{run_id}").text
    assert "61.0 %" in text and "shown when the run has ended" in text
    for kept in ("14 of 200", "GRPO on the base model", "tried experiment", "Provenance"):
        assert kept not in text
    assert "test items in workspace" not in page(client, "/boards/nano_gsm").text
    assert client.get("/leaderboard/nano_gsm").json()["boards"][0]["runs"][0]["flags"] == []


def test_a_token_in_a_log_is_not_shown(empty: Demo):
    run_id = empty.start("rdagent", 1)
    token = new_token(run_id)
    empty.work(run_id, [Step("h", "r", {"token": token}, 50, f"used {token}")])
    (empty.home / "workspace" / run_id / "logs" / "1.log").write_text(f"AUTORL_TOKEN={token}")
    empty.score(run_id, 50)
    answer = client_of(empty).get(f"/board-runs/{run_id}").text
    assert token not in answer and answer.count("[token]") == 4


# --- an agent's words stay words --------------------------------------------------------------------------------


@pytest.fixture
def evil(empty: Demo) -> Demo:
    """A run in which everything that an agent can write is an attack."""
    run_id = empty.start("rdagent", 1)
    workspace = empty.home / "workspace" / run_id
    empty.work(run_id, [Step(EVIL, EVIL, {EVIL: EVIL, "nested": {EVIL: [EVIL]}}, 50, EVIL, 1e9)])
    (workspace / "code" / "experiment_1" / "'><img src=x onerror=alert(1)>.py").write_text(EVIL)
    (workspace / "logs" / "1.log").write_text(EVIL)
    with empty.store.write() as tx:
        idea = tx.notebook.propose(run_id, "x", "y")
        trial = tx.notebook.begin(idea.id, {}, code_path=EVIL)
        tx.notebook.end(trial.id, ExperimentState.FAILED, feedback="", log_path=f"javascript:{EVIL}")
        tx.ledger.flag(run_id, Flag("canary_in_workspace", EVIL, {"n": 1.0}))
    final = empty.submit(run_id)
    with empty.store.write() as tx:
        tx.submissions.report(final, EVIL[:40], {EVIL: EVIL, "tensors": [EVIL]})
        tx.submissions.report(final, "provenance", {"tensors": [EVIL, {"name": EVIL, "relative": EVIL, "rank": EVIL}]})
    empty.end(run_id, RunState.INVALID, Reason("not_finite", EVIL))
    return empty


def test_hostile_words_make_no_element_and_no_handler(evil: Demo):
    client = client_of(evil)
    for path in every_path(evil):
        shown = page(client, path)
        names = {tag for tag, _ in shown.tags}
        assert "img" not in names and [tag for tag, _ in shown.tags].count("script") == 1
        assert not [name for _, values in shown.tags for name in values if name.startswith("on") or name == "style"]
        assert not [link for link in shown.attributes("href") if link.startswith(("javascript", "http", "//"))]


def test_hostile_words_are_shown_as_they_are(evil: Demo):
    text = page(client_of(evil), f"/board-runs/{run_ids(evil)[0]}").text
    assert text.count("<img src=x onerror=alert(1)>") >= 6 and "{{7*7}}" in text


def test_the_policy_allows_our_own_style_and_script_alone(client: TestClient):
    answer = client.get("/boards/nano_gsm")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy and policy.startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r'\b(?:src|href)="(?:https?:)?//', answer.text)


def test_a_notebook_without_end_is_shown_in_part(empty: Demo):
    run_id = empty.start("rdagent", 1)
    with empty.store.write() as tx:
        idea = tx.notebook.propose(run_id, "h" * 900_000, "r")
        for _ in range(MAX_EXPERIMENTS + 5):
            tx.notebook.begin(idea.id, {})
    assert read_run(Results(empty.store), run_id).left_out == 5
    answer = client_of(empty).get(f"/board-runs/{run_id}").text
    assert len(answer) < 400_000 and "more characters" in answer


def test_every_page_has_a_title_a_language_and_one_heading(client: TestClient, demo: Demo):
    for path in every_path(demo):
        tags = page(client, path).tags
        assert [tag for tag, _ in tags].count("h1") == 1 and ("html", {"lang": "en"}) in tags


def test_links_between_pages_lead_somewhere(client: TestClient, demo: Demo):
    for path in ("/", "/boards/nano_gsm", f"/board-runs/{run_ids(demo)[0]}", "/board-scenarios/nano_gsm"):
        answer = client.get(path)
        for link in {link for link in Parsed(answer.text).attributes("href") if not link.startswith(("#", "data:"))}:
            assert client.get(str(answer.url.join(link))).status_code == 200, f"{link} on {path}"
