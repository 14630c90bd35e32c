"""Holes that the red team found: each stays closed by a rule of its own."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from autorl_bench.bench import MAX_REPORTS, Bench
from autorl_bench.redteam.arena import Arena, make_bench
from autorl_bench.redteam.attacks.limits import ignore_the_deadline
from autorl_bench.redteam.weights import sibling
from autorl_bench.store import LimitReached, RunState
from autorl_bench.store.records import Run, Usage
from autorl_bench.types import Reason
from autorl_bench.web.text import clean


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path / "bench")


def _running(bench: Bench) -> Run:
    run, _ = bench.create(bench.scenarios.get("redteam"), "somebody", {}, isolation="none")
    bench.agent_started(run.id, 1, "none")
    return run


def test_an_attempt_whose_keeper_is_killed_has_used_its_time(attacked: Arena) -> None:
    player = attacked.create("killer_of_keepers", wall_seconds=60)
    record = attacked.home.log(player.run.id) / "agent-1" / "record.json"

    def kill() -> None:
        while not record.exists():
            time.sleep(0.05)
        time.sleep(1)
        os.kill(json.loads(record.read_text())["keeper"]["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    attacked.run_agent(ignore_the_deadline, player=player)
    killer.join()
    with attacked.bench.store.read() as tx:
        sample = tx.ledger.last_sample(player.run.id)
    assert sample is not None and sample.usage.wall_seconds >= 1 and sample.usage.cpu_seconds >= 1


def test_models_of_the_library_are_siblings_wherever_the_scenario_is(bench: Bench) -> None:
    assert sibling() in bench._siblings(bench.base_model(bench.scenarios.get("redteam"))).values()


def test_an_agent_that_used_up_its_looks_ends_with_a_reason(bench: Bench) -> None:
    run = _running(bench)
    refused = 0
    for _ in range(200):
        try:
            bench.submit(run, "nothing")
        except LimitReached:
            break
        except Exception:
            refused += 1
    assert 100 < refused < 200
    assert [reason.code for reason in bench.finish(run.id).reasons] == ["not_found"]


def test_reports_of_tokens_have_an_end(bench: Bench) -> None:
    run = _running(bench)
    with bench.store.write() as tx:
        for _ in range(MAX_REPORTS):
            tx.ledger.measure(run.id, Usage(0.0, 0.0))
    with pytest.raises(LimitReached, match="report larger sums"):
        bench.report_tokens(run.id, 1)


def test_a_recipe_that_is_deep_or_long_is_malformed(attacked: Arena) -> None:
    player = attacked.play("deep_recipes")
    number = player.client.propose("x").number
    deep: dict[str, object] = {}
    for _ in range(30):
        deep = {"a": deep}
    for recipe in (deep, {"a": "x" * 70_000}):
        body = {"hypothesis": number, "recipe": recipe}
        answer = player.http.post(f"/runs/{player.run.id}/experiments", json=body)
        assert answer.status_code == 422 and answer.json()["detail"]["code"] == "malformed"
    player.client.begin(number, {"a": {"b": [1, 2.5, None]}})
    attacked.bench.end(player.run.id, RunState.INTERRUPTED, Reason("test", "it is over"))


def test_a_rewritten_line_is_shown_as_a_terminal_would() -> None:
    assert clean("10 %\r20 %\r30 %\nnext\r\nlast" + "x" * 200_000).startswith("30 %\nnext\nlast")
