"""The JSON of a leaderboard."""

from __future__ import annotations

import json
from typing import Any

import pytest

from autorl_bench.web.boards import leaderboard_json
from tests.autorl_bench.web.demo import SECRET, Demo


@pytest.fixture(scope="module")
def board(demo: Demo) -> dict[str, Any]:
    answer = leaderboard_json(demo.store, "nano_gsm")
    assert answer["scenario"] == "nano_gsm" and len(answer["boards"]) == 1
    return answer["boards"][0]


def row(board: dict[str, Any], table: str, agent: str) -> dict[str, Any]:
    return next(row for row in board[table] if row["agent"] == agent)


def test_agents_that_cannot_be_told_apart_share_a_rank(board: dict[str, Any]):
    ranks = {row["agent"]: (row["rank"], row["tied"]) for row in board["without_flagged"]}
    assert ranks["rdagent"] == ranks["reference_recipe"] == (1, True) and ranks["do_nothing"] == (3, False)


def test_both_tables_come_from_the_same_runs(board: dict[str, Any]):
    without, complete = (row(board, table, "random_search") for table in ("without_flagged", "with_flagged"))
    assert without["score"] is None and complete["score"] == 79.0
    assert without["runs"] == complete["runs"] == {"scored": 1, "invalid": 1, "infrastructure": 1, "flagged": 1}


def test_the_reference_is_one_and_the_base_is_zero(board: dict[str, Any]):
    assert row(board, "without_flagged", "reference_recipe")["normalised"]["mean"] == 1.0
    assert row(board, "without_flagged", "do_nothing")["normalised"]["mean"] == 0.0


def test_every_run_is_listed_with_its_state(board: dict[str, Any]):
    states = [run["state"] for run in board["runs"]]
    assert len(states) == 13 and states.count("running") == states.count("invalid") == 1


def test_it_is_plain_json_without_infinities(demo: Demo):
    text = json.dumps(leaderboard_json(demo.store, "nano_gsm"), allow_nan=False)
    assert SECRET not in text and "HIDDEN-ID" not in text and "nano_gsm-1-" not in text


def test_a_ratio_without_bounds_is_null(empty: Demo):
    for agent, scores in (("reference_recipe", (95, 46, 90)), ("rdagent", (80, 70, 60))):
        for seed, score in enumerate(scores, start=1):
            empty.score(empty.start(agent, seed), score)
    json.dumps(leaderboard_json(empty.store, "nano_gsm"), allow_nan=False)


def test_a_scenario_without_runs_has_no_boards(empty: Demo):
    assert leaderboard_json(empty.store, "nano_gsm") == {"scenario": "nano_gsm", "boards": []}
