"""Runs: made once, proven by a token of which only the hash is kept, moved along the allowed transitions alone."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import text

from autorl_bench.store import Conflict, RecordError, RunState, Store, TransitionError, UnknownRecord
from autorl_bench.store.states import RUN_TRANSITIONS, check_run_transition
from tests.autorl_bench.store.conftest import Clock
from tests.autorl_bench.store.scenes import BROKEN, evaluating, new_run, running, scored

LIVE = [state for state in RunState if not state.is_end]


def create(store: Store, run_id: str | None = None) -> tuple[str, str]:
    with store.write() as tx:
        run = new_run(tx, run_id)
        return run.id, tx.runs.renew_token(run.id)


def dump(store: Store) -> str:
    with store.read() as tx:
        return repr(tx.session.execute(text("SELECT * FROM runs")).all())


def test_a_new_run_says_what_it_was_made_with(store: Store, clock: Clock):
    with store.write() as tx:
        made = new_run(tx, "r")
    assert (made.scenario, made.agent, made.state, made.budget) == (
        "nano_gsm",
        "rdagent",
        RunState.CREATED,
        {"wall_seconds": 600},
    )
    with store.read() as tx:
        assert tx.runs.get("r") == made


def test_default_ids_name_scenario_and_time_and_differ_within_a_second(store: Store):
    ids = {create(store)[0] for _ in range(5)}
    assert len(ids) == 5 and all(name.startswith("nano_gsm_20270115-080000-") for name in ids)


def test_an_id_is_used_once(store: Store):
    create(store, "r")
    with pytest.raises(Conflict, match="exists already"):
        create(store, "r")


@pytest.mark.parametrize("bad", ["../etc", "", "a b", "x" * 121, "r\x00", ".hidden", "r:1", "r\n"])
def test_an_id_that_is_no_folder_name_is_refused(store: Store, bad: str):
    with pytest.raises(RecordError, match="letters, digits"):
        create(store, bad)


def test_an_edited_scenario_is_another_snapshot_and_the_run_keeps_its_own(store: Store):
    with store.write() as tx:
        run = new_run(tx)
        edited = tx.runs.snapshot_scenario("nano_gsm", {"metric": "pass@1"})
        assert edited.digest != run.scenario_digest
        assert tx.runs.scenario(run.scenario_digest).content == {"metric": "accuracy"}


def test_the_same_scenario_and_agent_are_kept_once(store: Store):
    with store.write() as tx:
        first, second = new_run(tx, "a"), new_run(tx, "b")
    assert (first.scenario_digest, first.agent_digest) == (second.scenario_digest, second.agent_digest)


def test_runs_are_found_by_scenario_agent_and_state(store: Store):
    with store.write() as tx:
        new_run(tx, "a", agent="one"), new_run(tx, "b", agent="two"), new_run(tx, "c", agent="two", scenario="code")
        tx.runs.advance("b", RunState.RUNNING, actor="server")
        assert [run.id for run in tx.runs.all(agent="two")] == ["b", "c"]
        assert [run.id for run in tx.runs.all(scenario="nano_gsm")] == ["a", "b"]
        assert [run.id for run in tx.runs.all(states=[RunState.RUNNING])] == ["b"]


def test_a_token_proves_its_own_run_alone(store: Store):
    (_, first), (_, second) = create(store, "a"), create(store, "b")
    with store.read() as tx:
        assert [tx.runs.authenticate(token).id for token in (first, second)] == ["a", "b"]
        assert tx.runs.authenticate("b" + first[1:]) is None


@pytest.mark.parametrize(
    "forged", ["", "a", "a:", "a:" + "A" * 43, "nobody:" + "A" * 43, "a\x00:" + "A" * 43, "\ud800"]
)
def test_a_forged_token_proves_nothing(store: Store, forged: str):
    create(store, "a")
    with store.read() as tx:
        assert tx.runs.authenticate(forged) is None


def test_a_token_is_not_in_the_store(store: Store):
    _, token = create(store, "a")
    assert token.partition(":")[2] not in dump(store)


def test_a_renewed_token_replaces_the_old_one_and_a_revoked_one_is_worthless(store: Store):
    _, old = create(store, "a")
    with store.write() as tx:
        new = tx.runs.renew_token("a")
        assert tx.runs.authenticate(old) is None and tx.runs.authenticate(new) is not None
        tx.runs.revoke_token("a")
        assert tx.runs.authenticate(new) is None


@pytest.mark.parametrize(("now", "to"), list(itertools.product(RunState, RunState)))
def test_a_transition_happens_exactly_if_the_table_allows_it(now: RunState, to: RunState):
    if to in RUN_TRANSITIONS[now]:
        check_run_transition("r", now, to)
    else:
        with pytest.raises(TransitionError, match=f"r .*{now}.*{to}"):
            check_run_transition("r", now, to)


def test_only_the_four_ends_are_ends():
    ends = {RunState.SCORED, RunState.INVALID, RunState.INTERRUPTED, RunState.INFRASTRUCTURE}
    assert {state for state in RunState if state.is_end} == ends


def test_every_state_but_scored_is_reached_by_advancing_and_noted(store: Store):
    running(store)
    with store.write() as tx:
        ended = tx.runs.advance("r", RunState.INTERRUPTED, actor="server", reasons=BROKEN)
        assert (ended.state, ended.reasons) == (RunState.INTERRUPTED, BROKEN)
        moves = [
            (event.detail["from"], event.detail["to"], event.actor) for event in tx.ledger.events("r", "run.state")
        ]
    assert moves == [("created", "running", "server"), ("running", "interrupted", "server")]


def test_times_of_start_and_end_are_kept(store: Store, clock: Clock):
    clock.now += 5
    running(store)
    clock.now += 60
    with store.write() as tx:
        run = tx.runs.advance("r", RunState.INFRASTRUCTURE, actor="server", reasons=BROKEN)
    assert run.started is not None and run.ended is not None
    assert run.ended - run.started == 60


@pytest.mark.parametrize("to", [RunState.INVALID, RunState.INTERRUPTED, RunState.INFRASTRUCTURE])
def test_an_end_without_a_score_needs_a_reason(store: Store, to: RunState):
    running(store)
    with pytest.raises(TransitionError, match="needs a reason"), store.write() as tx:
        tx.runs.advance("r", to, actor="server")


def test_no_run_becomes_scored_by_advancing(store: Store):
    evaluating(store)
    with pytest.raises(TransitionError, match="only an evaluation"), store.write() as tx:
        tx.runs.advance("r", RunState.SCORED, actor="grader")


def test_a_scored_run_stays_scored(store: Store):
    scored(store)
    with pytest.raises(TransitionError, match="has ended"), store.write() as tx:
        tx.runs.advance("r", RunState.INTERRUPTED, actor="server", reasons=BROKEN)


def test_the_database_itself_refuses_a_score_without_an_evaluation(store: Store):
    evaluating(store)
    with pytest.raises(Conflict, match="scored_by_evaluation"), store.write() as tx:
        tx.session.execute(text("UPDATE runs SET state = 'scored'"))


def test_a_refused_change_undoes_its_whole_transaction(store: Store):
    running(store)
    with pytest.raises(TransitionError), store.write() as tx:
        tx.ledger.note("something", actor="server", run_id="r")
        tx.runs.advance("r", RunState.EVALUATING, actor="grader")
    with store.read() as tx:
        assert tx.ledger.events("r", "something") == []


def test_an_unknown_run_is_named(store: Store):
    with pytest.raises(UnknownRecord, match="no run 'missing'"), store.read() as tx:
        tx.runs.get("missing")
