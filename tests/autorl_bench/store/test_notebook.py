"""An agent's notebook: numbered in order, ended once, closed with the run."""

from __future__ import annotations

import pytest

from autorl_bench.store import Conflict, ExperimentState, RunState, Store, TransitionError, UnknownRecord
from tests.autorl_bench.store.scenes import BROKEN, DIGEST, running

ENDS = [ExperimentState.SUCCEEDED, ExperimentState.FAILED]


def test_hypotheses_and_experiments_are_numbered_within_their_run(store: Store):
    running(store, "a"), running(store, "b")
    with store.write() as tx:
        for run_id in ("a", "b", "a"):
            tx.notebook.begin(tx.notebook.propose(run_id, "a larger group", "less noise").id, {"group": 16})
        assert [hypothesis.number for hypothesis in tx.notebook.hypotheses("a")] == [1, 2]
        assert [experiment.number for experiment in tx.notebook.experiments("a")] == [1, 2]


@pytest.mark.parametrize("end", ENDS)
def test_an_experiment_ends_once_with_what_the_agent_says(store: Store, end: ExperimentState):
    running(store)
    with store.write() as tx:
        begun = tx.notebook.begin(tx.notebook.propose("r", "x", "y").id, {"lr": 1e-4}, code_path="code/1")
        ended = tx.notebook.end(begun.id, end, feedback="loss fell", claimed_score=99.0, log_path="log/1")
        assert tx.notebook.experiment(begun.id) == ended
    assert (ended.state, ended.claimed_score, ended.feedback, ended.recipe) == (end, 99.0, "loss fell", {"lr": 1e-4})
    with pytest.raises(Conflict, match=f"is {end}"), store.write() as tx:
        tx.notebook.end(begun.id, end, feedback="again")


def test_a_claimed_score_scores_nothing(store: Store):
    running(store)
    with store.write() as tx:
        begun = tx.notebook.begin(tx.notebook.propose("r", "x", "y").id, {})
        tx.notebook.end(begun.id, ExperimentState.SUCCEEDED, feedback="", claimed_score=100.0)
        assert tx.results.score("r") is None and tx.results.of_run("r") == []


def test_a_dev_query_names_the_experiment_that_it_was_asked_for(store: Store):
    running(store)
    with store.write() as tx:
        begun = tx.notebook.begin(tx.notebook.propose("r", "x", "y").id, {})
        query = tx.submissions.ask_dev("r", key="1", model_digest=DIGEST, limit=1, experiment_id=begun.id)
    assert query.experiment_id == begun.id


def test_a_dev_query_cannot_name_another_runs_experiment(store: Store):
    running(store, "a"), running(store, "b")
    with store.write() as tx:
        begun = tx.notebook.begin(tx.notebook.propose("a", "x", "y").id, {})
    with pytest.raises(Conflict, match="not of run b"), store.write() as tx:
        tx.submissions.ask_dev("b", key="1", model_digest=DIGEST, limit=1, experiment_id=begun.id)


def test_a_notebook_closes_with_its_run(store: Store):
    running(store)
    with store.write() as tx:
        hypothesis = tx.notebook.propose("r", "x", "y")
        tx.runs.advance("r", RunState.INTERRUPTED, actor="server", reasons=BROKEN)
    with pytest.raises(TransitionError, match="is interrupted"), store.write() as tx:
        tx.notebook.begin(hypothesis.id, {})


def test_an_unknown_hypothesis_or_experiment_is_named(store: Store):
    with pytest.raises(UnknownRecord, match="no hypothesis 7"), store.write() as tx:
        tx.notebook.begin(7, {})
    with pytest.raises(UnknownRecord, match="no experiment 7"), store.write() as tx:
        tx.notebook.end(7, ExperimentState.FAILED, feedback="")
