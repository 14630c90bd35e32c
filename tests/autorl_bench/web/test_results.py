"""From the store to the leaderboard's results: outcomes, baselines, flags that bind, attempts, settings."""

from __future__ import annotations

import pytest

from astune.tools.types import SandboxLevel
from autorl_bench.store import RunState, Track
from autorl_bench.submission.findings import FlagCode
from autorl_bench.types import Flag, Outcome, Reason
from autorl_bench.web.boards import read_boards
from autorl_bench.web.results import Entry, Results, binds, run_results
from tests.autorl_bench.web.demo import LARGER, WARM, Demo, evaluation

REASON = Reason("no_space", "the disk was full")


def entries(demo: Demo) -> list[Entry]:
    (found,) = Results(demo.store).entries("nano_gsm").values()
    return found


def of_agent(demo: Demo, agent: str) -> list[Entry]:
    return [entry for entry in entries(demo) if entry.agent == agent]


def test_each_end_of_a_run_has_its_outcome(demo: Demo):
    outcomes = [entry.result.outcome for entry in of_agent(demo, "random_search") if entry.result]
    assert outcomes == [Outcome.SCORED, Outcome.INVALID, Outcome.INFRASTRUCTURE]


@pytest.mark.parametrize("state", [RunState.INTERRUPTED, RunState.INFRASTRUCTURE])
def test_a_run_that_was_interrupted_failed_for_a_reason_of_ours(empty: Demo, state: RunState):
    empty.end(empty.start("rdagent", 1), state, REASON)
    (result,) = run_results(entries(empty))
    assert result.outcome == Outcome.INFRASTRUCTURE


def test_a_run_that_goes_on_has_no_result(demo: Demo):
    running = [entry for entry in entries(demo) if entry.run.state == RunState.RUNNING]
    assert [entry.result for entry in running] == [None]
    assert len(run_results(entries(demo))) == len(entries(demo)) - 1


def test_the_score_is_paired_with_the_base_model_on_the_same_items(demo: Demo):
    result = of_agent(demo, "rdagent")[0].result
    assert result is not None and result.evaluated is not None
    assert sum(result.evaluated.scores) == 170 and sum(result.evaluated.baseline) == 88


def test_progress_is_dev_scores_over_seconds_since_the_start_against_the_dev_baseline(demo: Demo):
    result = of_agent(demo, "rdagent")[0].result
    assert result is not None
    assert result.progress == ((97.0, 61.0), (194.0, 78.0), (291.0, 88.0)) and result.dev_baseline == 44.0


def test_the_time_between_two_attempts_is_not_charged(empty: Demo):
    run_id = empty.start("rdagent", 1)
    for attempt, downtime in ((1, 5000), (2, 0)):
        empty.note(run_id, "agent.started")
        empty.work(run_id, [WARM], number=attempt, seconds=100)
        empty.note(run_id, "agent.ended")
        empty.clock.now += downtime
    empty.score(run_id, 60)
    (result,) = run_results(entries(empty))
    assert [seconds for seconds, _ in result.progress] == [100, 200]


def test_the_curve_of_a_board_begins_at_the_dev_baseline(empty: Demo):
    run_id = empty.start("rdagent", 1)
    empty.work(run_id, [WARM])
    empty.score(run_id, 60)
    row = read_boards(Results(empty.store), "nano_gsm")[0].clean[0]
    assert row.curve is not None and row.curve.best == (44.0, 61.0)


def test_the_cost_is_the_last_measurement(demo: Demo):
    result = of_agent(demo, "rdagent")[0].result
    assert result is not None and (result.cost.wall_seconds, result.cost.tokens) == (388.0, 17_200)


def test_without_measurements_the_cost_is_the_time_from_start_to_end(empty: Demo):
    empty.score(empty.start("rdagent", 1), 50)
    (result,) = run_results(entries(empty))
    assert result.cost.wall_seconds == 6.0


def test_flags_that_bind_rank_apart_and_notices_rank_nothing(demo: Demo):
    flagged, honest = of_agent(demo, "random_search")[0], of_agent(demo, "do_nothing")[0]
    assert flagged.result is not None and flagged.result.flags == (FlagCode.TEST_ITEMS_IN_WORKSPACE,)
    assert honest.result is not None and honest.result.flags == ()
    assert [flag.code for flag in honest.notices] == [FlagCode.IDENTICAL_TO_BASE]


def test_a_flag_of_a_kind_that_is_not_known_binds():
    assert binds(Flag("something_new", "found"))


@pytest.mark.parametrize(("told", "level"), [("kernel", SandboxLevel.KERNEL), ("docker?", None)])
def test_only_known_levels_of_isolation_are_claimed(empty: Demo, told: str, level: SandboxLevel | None):
    with empty.store.write() as tx:
        snapshot = tx.runs.snapshot_scenario("nano_gsm", {})
        agent = tx.runs.register_agent("a", {})
        run, _ = tx.runs.create(snapshot, agent, track=Track.WEIGHTS, seed=1, budget={}, isolation=told)
        tx.runs.advance(run.id, RunState.INTERRUPTED, actor="server", reasons=(REASON,))
    (result,) = run_results(entries(empty))
    assert result.isolation == level


def test_attempts_at_one_seed_are_counted_and_the_first_that_did_not_fail_for_us_counts(empty: Demo):
    empty.end(empty.start("rdagent", 1), RunState.INFRASTRUCTURE, REASON)
    for score in (60, 90):
        empty.score(empty.start("rdagent", 1), score)
    (board,) = read_boards(Results(empty.store), "nano_gsm")
    assert [entry.result.attempt for entry in board.entries if entry.result] == [0, 1, 2]
    assert [board.counts(entry) for entry in board.entries] == [False, True, False]
    assert board.clean[0].score == 60


def test_a_score_without_a_baseline_is_on_no_board_and_says_why(empty: Demo):
    with empty.store.write() as tx:
        snapshot = tx.runs.snapshot_scenario("nano_gsm", {})
        agent = tx.runs.register_agent("a", {})
        run, _ = tx.runs.create(snapshot, agent, track=Track.WEIGHTS, seed=1, budget={}, isolation="kernel")
        tx.runs.advance(run.id, RunState.RUNNING, actor="server")
    final = empty.submit(run.id)
    with empty.store.write() as tx:
        facts = {"n_items": 4, "model_digest": "d", "seconds": 1.0, "actor": "grader"}
        tx.results.score_run(final, evaluation(50, 4, "", 1), **facts)
    (entry,) = entries(empty)
    assert entry.result is not None and entry.result.outcome == Outcome.INFRASTRUCTURE
    assert "never recorded" in entry.problem


def test_two_tracks_are_two_boards_and_no_attempts_of_each_other(empty: Demo):
    for track in (Track.WEIGHTS, Track.REPLAY):
        empty.score(empty.start("rdagent", 1, track), 60)
    boards = read_boards(Results(empty.store), "nano_gsm")
    assert [board.setting.track for board in boards] == [Track.REPLAY, Track.WEIGHTS]
    assert [board.clean[0].scored for board in boards] == [1, 1]


def test_two_versions_of_an_agent_are_two_agents(empty: Demo):
    empty.score(empty.start("rdagent", 1), 60)
    empty.score(empty.start("rdagent", 1, version="2"), 90)
    (board,) = read_boards(Results(empty.store), "nano_gsm")
    names = [row.agent for row in board.clean]
    assert len(set(names)) == 2 and all(name.startswith("rdagent @") for name in names)


def test_results_are_remembered_until_something_is_noted(empty: Demo):
    run_id = empty.start("rdagent", 1)
    empty.work(run_id, [LARGER])
    empty.score(run_id, 60)
    results = Results(empty.store)
    before = results.entries("nano_gsm")
    empty.flag(run_id, FlagCode.CANARY_IN_WORKSPACE, "a canary", canaries=1)
    after = results.entries("nano_gsm")
    assert [[entry.flags for entry in group] for group in before.values()] == [[()]]
    assert [[len(entry.flags) for entry in group] for group in after.values()] == [[1]]
