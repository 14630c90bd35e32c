"""What a run hands in, and what it asks of the dev split: both counted against its budget before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from autorl_bench.store.errors import Conflict, LimitReached, TransitionError, UnknownRecord
from autorl_bench.store.notebook import Notebook
from autorl_bench.store.records import DevQuery, Submission, as_record, reasons_json, reasons_of
from autorl_bench.store.runs import lock_run, move
from autorl_bench.store.states import QueryState, RunState, SubmissionState
from autorl_bench.store.tables import DevQueryRow, RunRow, SubmissionRow
from autorl_bench.types import Reason


@dataclass(frozen=True)
class Submissions:
    """Submissions and dev queries within one transaction that began at ``now``."""

    session: Session
    now: float

    def add(
        self, run_id: str, *, digest: str, path: str, size: int, limit: int, report: Mapping[str, Any] | None = None
    ) -> Submission:
        """Records a submission that was copied to ``path`` and hashed; the same digest again is the same submission.

        Raises:
            LimitReached: the run has made ``limit`` already.
            TransitionError: the run is not running.
            UnknownRecord: no such run.
        """
        run = _running(self.session, run_id)
        query = select(SubmissionRow).where(SubmissionRow.run_id == run_id).order_by(SubmissionRow.id)
        earlier = self.session.scalars(query).all()
        for row in earlier:
            if row.digest == digest:
                return _submission(row)
        if len(earlier) >= limit:
            raise LimitReached(f"run {run.id} has made {len(earlier)} of {limit} submissions; no more are allowed")
        row = SubmissionRow(
            run_id=run_id,
            number=len(earlier) + 1,
            digest=digest,
            path=path,
            size=size,
            final=False,
            state=SubmissionState.RECEIVED,
            reasons=[],
            report=dict(report or {}),
            created=self.now,
        )
        self.session.add(row)
        self.session.flush()
        return _submission(row)

    def declare_final(self, submission_id: int, *, actor: str) -> Submission:
        """Makes a submission the one that the test is opened for; the run is ``submitted`` from now on.

        Raises:
            TransitionError: the run is not running (or has declared one already), or the submission was refused.
            UnknownRecord: no such submission.
        """
        row = submission_row(self.session, submission_id)
        run = lock_run(self.session, row.run_id)
        if row.state != SubmissionState.RECEIVED:
            raise TransitionError(f"submission {row.number} of run {run.id} is {row.state}; it cannot be the final one")
        move(self.session, run, RunState.SUBMITTED, self.now, actor=actor)
        row.final = True
        self.session.flush()
        return _submission(row)

    def refuse(self, submission_id: int, state: SubmissionState, reasons: tuple[Reason, ...]) -> Submission:
        """Ends a submission without a score: ``invalid`` or ``infrastructure``, with reasons.

        Raises:
            TransitionError: it has ended already, ``state`` is no refusal, or there is no reason.
            UnknownRecord: no such submission.
        """
        row = submission_row(self.session, submission_id)
        refusal = state in (SubmissionState.INVALID, SubmissionState.INFRASTRUCTURE)
        if row.state != SubmissionState.RECEIVED or not refusal or not reasons:
            raise TransitionError(
                f"submission {row.number} of run {row.run_id}: {row.state} to {state}, reasons {reasons}"
            )
        row.state, row.reasons = state, reasons_json(reasons)
        return _submission(row)

    def report(self, submission_id: int, name: str, content: Mapping[str, Any]) -> Submission:
        """Adds a named report (provenance, contamination) to a submission.

        Raises:
            UnknownRecord: no such submission.
        """
        row = submission_row(self.session, submission_id)
        row.report = {**row.report, name: dict(content)}
        return _submission(row)

    def get(self, submission_id: int) -> Submission:
        """A submission as it is.

        Raises:
            UnknownRecord: no such submission.
        """
        row = self.session.get(SubmissionRow, submission_id)
        if row is None:
            raise UnknownRecord(f"no submission {submission_id}")
        return _submission(row)

    def of_run(self, run_id: str) -> list[Submission]:
        """A run's submissions in order."""
        query = select(SubmissionRow).where(SubmissionRow.run_id == run_id).order_by(SubmissionRow.id)
        return [_submission(row) for row in self.session.scalars(query)]

    def final(self, run_id: str) -> Submission | None:
        """The submission that a run declared final."""
        query = select(SubmissionRow).where(SubmissionRow.run_id == run_id, SubmissionRow.final)
        row = self.session.scalars(query).one_or_none()
        return None if row is None else _submission(row)

    def ask_dev(
        self, run_id: str, *, key: str, model_digest: str, limit: int, experiment_id: int | None = None
    ) -> DevQuery:
        """Records a question for the dev score; the same ``key`` again is the same question.

        Questions that our side failed to answer don't count. ``experiment_id`` is what the agent asks it for.

        Raises:
            LimitReached: the run has asked ``limit`` already.
            Conflict: ``key`` was used for another model, or the experiment is another run's.
            TransitionError: the run is not running.
        """
        _running(self.session, run_id)
        queries = self.dev_queries(run_id)
        for query in queries:
            if query.key == key and query.model_digest != model_digest:
                raise Conflict(f"run {run_id}: key {key!r} was used for another model; choose a new one")
            if query.key == key:
                return query
        spent = sum(query.state != QueryState.INFRASTRUCTURE for query in queries)
        if spent >= limit:
            raise LimitReached(f"run {run_id} has asked {spent} of {limit} dev queries; no more are allowed")
        if experiment_id is not None and Notebook(self.session, self.now).experiment(experiment_id).run_id != run_id:
            raise Conflict(f"experiment {experiment_id} is not of run {run_id}")
        row = DevQueryRow(run_id=run_id, key=key, model_digest=model_digest, created=self.now)
        row.state, row.reasons, row.experiment_id = QueryState.OPEN, [], experiment_id
        self.session.add(row)
        self.session.flush()
        return _query(row)

    def refuse_dev(self, query_id: int, state: QueryState, reasons: tuple[Reason, ...]) -> DevQuery:
        """Ends a dev query without a score: ``invalid`` (it counts) or ``infrastructure`` (it doesn't), with reasons.

        Raises:
            TransitionError: it has ended already, ``state`` is no refusal, or there is no reason.
            UnknownRecord: no such query.
        """
        row = query_row(self.session, query_id)
        refusal = state in (QueryState.INVALID, QueryState.INFRASTRUCTURE)
        if row.state != QueryState.OPEN or not refusal or not reasons:
            raise TransitionError(f"dev query {row.id} of run {row.run_id}: {row.state} to {state}, reasons {reasons}")
        row.state, row.reasons = state, reasons_json(reasons)
        return _query(row)

    def dev_query(self, query_id: int) -> DevQuery:
        """A dev query as it is.

        Raises:
            UnknownRecord: no such query.
        """
        row = self.session.get(DevQueryRow, query_id)
        if row is None:
            raise UnknownRecord(f"no dev query {query_id}")
        return _query(row)

    def dev_queries(self, run_id: str) -> list[DevQuery]:
        """A run's dev queries in order."""
        query = select(DevQueryRow).where(DevQueryRow.run_id == run_id).order_by(DevQueryRow.id)
        return [_query(row) for row in self.session.scalars(query)]

    def dev_queries_spent(self, run_id: str) -> int:
        """Number of a run's dev queries that count against its budget."""
        conditions = (DevQueryRow.run_id == run_id, DevQueryRow.state != QueryState.INFRASTRUCTURE)
        return self.session.scalars(select(func.count()).select_from(DevQueryRow).where(*conditions)).one()


def submission_row(session: Session, submission_id: int) -> SubmissionRow:
    """A submission's row, which no other transaction changes until this one ends."""
    row = session.get(SubmissionRow, submission_id, with_for_update={"key_share": True}, populate_existing=True)
    if row is None:
        raise UnknownRecord(f"no submission {submission_id}")
    return row


def query_row(session: Session, query_id: int) -> DevQueryRow:
    """A dev query's row, which no other transaction changes until this one ends."""
    row = session.get(DevQueryRow, query_id, with_for_update={"key_share": True}, populate_existing=True)
    if row is None:
        raise UnknownRecord(f"no dev query {query_id}")
    return row


def _running(session: Session, run_id: str) -> RunRow:
    run = lock_run(session, run_id)
    if run.state != RunState.RUNNING:
        raise TransitionError(f"run {run_id} is {run.state}; only a running one may submit or ask")
    return run


def _submission(row: SubmissionRow) -> Submission:
    return as_record(Submission, row, reasons=reasons_of(row.reasons))


def _query(row: DevQueryRow) -> DevQuery:
    return as_record(DevQuery, row, reasons=reasons_of(row.reasons))
