"""Scores: written with every item in one transaction, or not at all; budgets in numbers; notes along a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from autorl_bench.store import (
    Conflict,
    LimitReached,
    QueryState,
    RecordError,
    Role,
    RunState,
    Store,
    StoreError,
    SubmissionState,
    TransitionError,
    UnknownRecord,
)
from autorl_bench.store.columns import MAX_TEXT, storable
from autorl_bench.store.records import Usage
from autorl_bench.types import Evaluation, Flag, ItemResult
from tests.autorl_bench.store.scenes import (
    BROKEN,
    DIGEST,
    UNSAFE,
    evaluating,
    evaluation,
    new_run,
    running,
    score,
    scored,
    submission,
)

FACTS = {"n_items": 4, "model_digest": DIGEST, "seconds": 1.0}
FOUR = evaluation([True, True, False, None])


def test_a_score_reads_back_as_it_was_computed(store: Store):
    record = scored(store)
    assert record.evaluation == evaluation([True, False, None, True])
    assert (record.role, record.split, record.seconds, record.evaluation.accuracy) == (Role.FINAL, "test", 2.5, 50.0)


def test_scoring_ends_run_and_submission_together(store: Store):
    scored(store)
    with store.read() as tx:
        final = tx.submissions.final("r")
        assert final is not None and final.state == SubmissionState.SCORED
        assert tx.runs.get("r").state == RunState.SCORED


def test_the_path_of_a_log_is_kept(store: Store):
    running(store)
    with store.write() as tx:
        logged = dataclasses.replace(FOUR, log_path=Path("log/a.eval"))
        record = tx.results.record("r", Role.BASELINE, logged, **FACTS)
        assert tx.results.baseline("r") == record
    assert record.evaluation.log_path == Path("log/a.eval")


@pytest.mark.parametrize("marks", [[True], [True] * 3, [True] * 5])
def test_a_part_of_the_split_is_no_score(store: Store, marks: list[bool]):
    final = evaluating(store)
    with pytest.raises(RecordError, match="split of 4"), store.write() as tx:
        score(tx, final, marks)
    with store.read() as tx:
        assert tx.results.score("r") is None and tx.runs.get("r").state == RunState.EVALUATING


def test_an_item_counted_twice_is_no_score(store: Store):
    running(store)
    twice = Evaluation((ItemResult("a", True, "", 1, False),) * 4)
    with pytest.raises(RecordError, match="4 results of 1 items"), store.write() as tx:
        tx.results.record("r", Role.BASELINE, twice, **FACTS)


def test_a_transaction_that_fails_after_the_score_leaves_none(store: Store):
    final = evaluating(store)
    with pytest.raises(RuntimeError, match="killed"), store.write() as tx:
        score(tx, final)
        raise RuntimeError("killed")
    with store.read() as tx:
        assert tx.results.of_run("r") == [] and tx.runs.get("r").state == RunState.EVALUATING
        assert tx.session.execute(text("SELECT count(*) FROM items")).scalar() == 0


def test_a_run_is_scored_once(store: Store):
    record = scored(store)
    assert record.submission_id is not None
    with pytest.raises(TransitionError, match="scored: no score"), store.write() as tx:
        score(tx, record.submission_id)


def test_only_the_final_submission_is_scored(store: Store):
    running(store)
    with store.write() as tx:
        other = submission(tx, "r", "e" * 64)
        tx.submissions.declare_final(submission(tx, "r").id, actor="server")
        tx.runs.advance("r", RunState.EVALUATING, actor="grader")
    with pytest.raises(TransitionError, match="not the final submission"), store.write() as tx:
        score(tx, other.id)


def test_a_run_that_is_not_being_evaluated_gets_no_score(store: Store):
    running(store)
    with store.write() as tx:
        final = tx.submissions.declare_final(submission(tx, "r").id, actor="server")
    with pytest.raises(TransitionError, match="scored cannot follow"), store.write() as tx:
        score(tx, final.id)


@pytest.mark.parametrize("role", [Role.BASELINE, Role.DEV_BASELINE, Role.TWIN, Role.CLAIMED])
def test_each_role_but_dev_is_measured_once_a_run(store: Store, role: Role):
    running(store)
    with store.write() as tx:
        tx.results.record("r", role, FOUR, **FACTS)
    with pytest.raises(Conflict, match=f"has its {role} evaluation already"), store.write() as tx:
        tx.results.record("r", role, FOUR, **FACTS)


@pytest.mark.parametrize("role", [Role.FINAL, Role.DEV])
def test_what_decides_something_is_not_recorded_alone(store: Store, role: Role):
    running(store)
    with pytest.raises(Conflict, match="together with what it decides"), store.write() as tx:
        tx.results.record("r", role, FOUR, **FACTS)


def test_an_evaluation_cannot_name_another_runs_submission(store: Store):
    running(store, "a"), running(store, "b")
    with store.write() as tx:
        other = submission(tx, "b")
    with pytest.raises(Conflict, match="not of run a"), store.write() as tx:
        tx.results.record("a", Role.TWIN, FOUR, submission_id=other.id, **FACTS)


def test_submissions_are_counted_and_limited(store: Store):
    running(store)
    with store.write() as tx:
        assert [submission(tx, "r", digit * 64, limit=2).number for digit in "ab"] == [1, 2]
    with pytest.raises(LimitReached, match="2 of 2 submissions"), store.write() as tx:
        submission(tx, "r", "c" * 64, limit=2)


def test_the_same_submission_again_is_not_a_second(store: Store):
    running(store)
    with store.write() as tx:
        first = submission(tx, "r", limit=1)
        assert submission(tx, "r", limit=1) == first


def test_one_submission_is_declared_final(store: Store):
    running(store)
    with store.write() as tx:
        first, second = submission(tx, "r", "a" * 64), submission(tx, "r", "b" * 64)
        tx.submissions.declare_final(first.id, actor="server")
    with pytest.raises(TransitionError, match="is submitted"), store.write() as tx:
        tx.submissions.declare_final(second.id, actor="server")


def test_a_refused_submission_keeps_its_reasons_and_is_never_final(store: Store):
    running(store)
    with store.write() as tx:
        refused = tx.submissions.refuse(submission(tx, "r").id, SubmissionState.INVALID, UNSAFE)
        assert refused.reasons == UNSAFE
    with pytest.raises(TransitionError, match="is invalid"), store.write() as tx:
        tx.submissions.declare_final(refused.id, actor="server")


@pytest.mark.parametrize(("state", "reasons"), [(SubmissionState.SCORED, UNSAFE), (SubmissionState.INVALID, ())])
def test_a_refusal_is_no_score_and_has_a_reason(store: Store, state: SubmissionState, reasons: tuple):
    running(store)
    with pytest.raises(TransitionError), store.write() as tx:
        tx.submissions.refuse(submission(tx, "r").id, state, reasons)


def test_reports_of_a_submission_add_up(store: Store):
    running(store)
    with store.write() as tx:
        made = submission(tx, "r")
        tx.submissions.report(made.id, "provenance", {"rank": 8})
        tx.submissions.report(made.id, "contamination", {"overlap": 0.0})
    with store.read() as tx:
        assert tx.submissions.get(made.id).report == {"provenance": {"rank": 8}, "contamination": {"overlap": 0.0}}


def test_nothing_is_handed_in_after_the_end(store: Store):
    running(store)
    with store.write() as tx:
        tx.runs.advance("r", RunState.INTERRUPTED, actor="server", reasons=BROKEN)
    with pytest.raises(TransitionError, match="is interrupted"), store.write() as tx:
        submission(tx, "r")


def test_a_dev_query_is_answered_with_its_evaluation(store: Store):
    running(store)
    with store.write() as tx:
        query = tx.submissions.ask_dev("r", key="1", model_digest=DIGEST, limit=1)
        answered = tx.results.answer_dev(query.id, FOUR, n_items=4, seconds=1.0)
    assert answered.state == QueryState.ANSWERED and answered.evaluation_id is not None
    with store.read() as tx:
        record = tx.results.get(answered.evaluation_id)
    assert (record.role, record.split, record.evaluation) == (Role.DEV, "dev", FOUR)


def test_a_dev_query_is_answered_once(store: Store):
    running(store)
    with store.write() as tx:
        query = tx.submissions.ask_dev("r", key="1", model_digest=DIGEST, limit=1)
        tx.results.answer_dev(query.id, FOUR, n_items=4, seconds=1.0)
    with pytest.raises(TransitionError, match="answered already"), store.write() as tx:
        tx.results.answer_dev(query.id, FOUR, n_items=4, seconds=1.0)


def test_dev_queries_are_limited_and_asking_again_is_free(store: Store):
    running(store)
    with store.write() as tx:
        first = tx.submissions.ask_dev("r", key="1", model_digest=DIGEST, limit=1)
        assert tx.submissions.ask_dev("r", key="1", model_digest=DIGEST, limit=1) == first
    with pytest.raises(LimitReached, match="1 of 1 dev queries"), store.write() as tx:
        tx.submissions.ask_dev("r", key="2", model_digest=DIGEST, limit=1)


def test_a_key_names_one_model(store: Store):
    running(store)
    with pytest.raises(Conflict, match="another model"), store.write() as tx:
        tx.submissions.ask_dev("r", key="1", model_digest=DIGEST, limit=5)
        tx.submissions.ask_dev("r", key="1", model_digest="e" * 64, limit=5)


@pytest.mark.parametrize(("state", "spent"), [(QueryState.INVALID, 1), (QueryState.INFRASTRUCTURE, 0)])
def test_a_failure_of_ours_costs_no_dev_query(store: Store, state: QueryState, spent: int):
    running(store)
    with store.write() as tx:
        query = tx.submissions.ask_dev("r", key="1", model_digest=DIGEST, limit=1)
        tx.submissions.refuse_dev(query.id, state, BROKEN)
        assert tx.submissions.dev_queries_spent("r") == spent


def test_a_flag_is_raised_once_with_its_first_evidence(store: Store):
    flag = Flag("identical_to_base", "the weights are the base's", {"changed": 0.0})
    with store.write() as tx:
        new_run(tx, "r"), new_run(tx, "clean")
        assert tx.ledger.flag("r", flag) and not tx.ledger.flag("r", dataclasses.replace(flag, evidence={}))
        assert [record.flag for record in tx.ledger.flags("r")] == [flag]
        assert tx.ledger.flagged() == {"r": 1}


def test_measurements_are_kept_in_order(store: Store):
    usage = [Usage(wall_seconds=float(n), cpu_seconds=0.5, peak_memory=2**40, agent_tokens=n) for n in range(3)]
    with store.write() as tx:
        new_run(tx, "r")
        for one in usage:
            tx.ledger.measure("r", one)
    with store.read() as tx:
        last = tx.ledger.last_sample("r")
        assert [sample.usage for sample in tx.ledger.samples("r")] == usage and last is not None
        assert last.usage == usage[-1]


def test_a_note_about_no_run_of_ours_is_refused(store: Store):
    with pytest.raises(Conflict, match="refuses a record"), store.write() as tx:
        tx.ledger.note("flood", actor="server", run_id="missing")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_what_is_not_json_is_refused(store: Store, value: object):
    with pytest.raises(RecordError, match="as JSON"), store.write() as tx:
        tx.ledger.note("x", actor="server", detail={"value": value})


def test_a_text_that_would_fill_the_disk_is_refused(store: Store):
    with pytest.raises(RecordError, match="too long"), store.write() as tx:
        tx.ledger.note("x", actor="a" * (MAX_TEXT + 1))


def test_a_key_that_is_too_long_is_refused_on_both_databases(store: Store):
    running(store)
    with pytest.raises(RecordError, match="at most 120"), store.write() as tx:
        tx.submissions.ask_dev("r", key="k" * 121, model_digest=DIGEST, limit=1)


def test_a_reader_cannot_write(store: Store):
    with pytest.raises(StoreError, match=r"read-?only"), store.read() as tx:
        tx.ledger.note("x", actor="server")


def test_a_reader_sees_one_moment(store: Store):
    with store.read() as before:
        assert before.ledger.events() == []
        with store.write() as tx:
            tx.ledger.note("x", actor="server")
        assert before.ledger.events() == []


@pytest.mark.parametrize("lookup", ["submissions.get", "submissions.dev_query", "results.get", "queue.get"])
def test_an_unknown_number_is_named(store: Store, lookup: str):
    part, _, method = lookup.partition(".")
    with pytest.raises(UnknownRecord, match="7"), store.read() as tx:
        getattr(getattr(tx, part), method)(7)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(completion=st.text(st.characters(), max_size=20))
def test_whatever_a_model_samples_is_kept(store: Store, completion: str):
    result = Evaluation((ItemResult("a", True, completion, 1, False),))
    with store.write() as tx:
        run = new_run(tx)
        record = tx.results.record(run.id, Role.BASELINE, result, n_items=1, model_digest=DIGEST, seconds=0.1)
    assert record.evaluation.results[0].completion == storable(completion)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_ordinary_text_is_not_changed(ordinary: str):
    assert storable(ordinary) == ordinary


def test_what_no_server_stores_is_replaced():
    assert storable("a\x00b\ud800c") == "a\ufffdb\ufffdc"
