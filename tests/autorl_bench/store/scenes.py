"""Runs in the states that tests start from, and evaluations to give them."""

from __future__ import annotations

from collections.abc import Sequence

from autorl_bench.store import RunState, Store, Track, Transaction
from autorl_bench.store.records import EvaluationRecord, Run, Submission
from autorl_bench.types import Evaluation, ItemResult, Reason

BROKEN = (Reason("no_space", "the disk was full"),)
UNSAFE = (Reason("pickle", "submit safetensors"),)
DIGEST = "d" * 64


def new_run(tx: Transaction, run_id: str | None = None, agent: str = "rdagent", scenario: str = "nano_gsm") -> Run:
    snapshot = tx.runs.snapshot_scenario(scenario, {"metric": "accuracy"})
    version = tx.runs.register_agent(agent, {"command": ["python", "run.py"]})
    budget = {"wall_seconds": 600}
    run, _ = tx.runs.create(
        snapshot, version, track=Track.WEIGHTS, seed=1, budget=budget, isolation="sandbox", run_id=run_id
    )
    return run


def running(store: Store, run_id: str = "r") -> str:
    with store.write() as tx:
        new_run(tx, run_id)
        tx.runs.advance(run_id, RunState.RUNNING, actor="server")
    return run_id


def submission(tx: Transaction, run_id: str, digest: str = DIGEST, limit: int = 5) -> Submission:
    return tx.submissions.add(run_id, digest=digest, path=f"vault/{digest[:8]}", size=1000, limit=limit)


def evaluating(store: Store, run_id: str = "r") -> int:
    """A run whose final submission is being evaluated; the submission's id."""
    running(store, run_id)
    with store.write() as tx:
        final = tx.submissions.declare_final(submission(tx, run_id).id, actor="server")
        tx.runs.advance(run_id, RunState.EVALUATING, actor="grader")
    return final.id


def evaluation(marks: Sequence[bool | None]) -> Evaluation:
    items = (ItemResult(f"item-{n}", mark, f"answer {n}", 10 + n, mark is None) for n, mark in enumerate(marks))
    return Evaluation(tuple(items))


def score(tx: Transaction, submission_id: int, marks: Sequence[bool | None] = (True, False, None, True)) -> Run:
    facts = {"n_items": 4, "model_digest": DIGEST, "seconds": 2.5, "actor": "grader"}
    return tx.results.score_run(submission_id, evaluation(marks), **facts)


def scored(store: Store, run_id: str = "r") -> EvaluationRecord:
    final = evaluating(store, run_id)
    with store.write() as tx:
        score(tx, final)
        found = tx.results.score(run_id)
    assert found is not None
    return found
