"""What others need to know of a grader: the name that it goes by, and what follows when it will never be done."""

from __future__ import annotations

from autorl_bench.bench import DEV
from autorl_bench.store import QueryState, RunState, SubmissionState, Transaction
from autorl_bench.store.records import Job
from autorl_bench.types import Reason


def give_up(tx: Transaction, job: Job, reason: Reason) -> None:
    """What follows when a job has failed for good for a reason of ours: no score, and no count against the run."""
    if job.kind == DEV:
        query = tx.submissions.dev_query(job.payload["query"])
        if query.state == QueryState.OPEN:
            tx.submissions.refuse_dev(query.id, QueryState.INFRASTRUCTURE, (reason,))
        return
    final = tx.submissions.final(job.run_id)
    if final is not None and final.state == SubmissionState.RECEIVED:
        tx.submissions.refuse(final.id, SubmissionState.INFRASTRUCTURE, (reason,))
    if not tx.runs.get(job.run_id).state.is_end:
        tx.runs.advance(job.run_id, RunState.INFRASTRUCTURE, actor="grader", reasons=(reason,))


def give_up_all(tx: Transaction, reason: Reason) -> None:
    """Ends whatever waits for a grader, where there will be none."""
    for run in tx.runs.all(states=[state for state in RunState if not state.is_end]):
        for job in tx.queue.cancel(run.id):
            give_up(tx, job, reason)
