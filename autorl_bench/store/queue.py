"""A durable queue in the store: at least one attempt, at most one end, and no run can starve another.

A worker leases a job, extends the lease while it works, and completes or fails it in the transaction that
writes its results. A worker that is killed lets its lease expire; the job is then leased to another. The one
whose lease expired can end nothing any more, whatever it still writes in that transaction is undone.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from autorl_bench.store.columns import canonical_json
from autorl_bench.store.database import LOCK_LEASE, insert_if_absent, only_one
from autorl_bench.store.errors import Conflict, LeaseLost, RecordError, UnknownRecord
from autorl_bench.store.records import Job, Lease, as_record
from autorl_bench.store.states import JobState
from autorl_bench.store.tables import JobRow, LaneRow, RunRow

_OPEN = (JobState.WAITING, JobState.LEASED)


@dataclass(frozen=True)
class Queue:
    """The queue within one transaction that began at ``now``."""

    session: Session
    now: float

    def enqueue(
        self, kind: str, run_id: str, payload: Mapping[str, Any], *, key: str, max_attempts: int = 3, delay: float = 0.0
    ) -> Job:
        """Adds a job, or returns the one that an earlier request with the same run and ``key`` added.

        Raises:
            UnknownRecord: no such run.
            Conflict: ``key`` was used for other work.
        """
        if max_attempts < 1:
            raise RecordError(f"max_attempts is {max_attempts}; a job needs at least one")
        if self.session.get(RunRow, run_id) is None:
            raise UnknownRecord(f"no run {run_id!r}")
        insert_if_absent(self.session, LaneRow, run_id=run_id, served=0)
        values = {"kind": kind, "payload": dict(payload), "state": JobState.WAITING, "attempts": 0, "result": {}}
        times = {"available": self.now + delay, "created": self.now, "max_attempts": max_attempts}
        insert_if_absent(self.session, JobRow, run_id=run_id, key=key, **values, **times)
        row = self.session.scalars(select(JobRow).where(JobRow.run_id == run_id, JobRow.key == key)).one()
        if row.kind != kind or canonical_json(row.payload) != canonical_json(values["payload"]):
            raise Conflict(f"run {run_id}: key {key!r} was used for another request; choose a new one")
        return _job(row)

    def lease(self, kinds: Sequence[str], *, worker: str, seconds: float) -> Lease | None:
        """The oldest job of the run that was served longest ago, for ``seconds``; None when nothing is to be done.

        Jobs whose worker let its lease expire are offered again while they have attempts left.
        """
        only_one(self.session, LOCK_LEASE)
        may = (JobRow.kind.in_(kinds), JobRow.attempts < JobRow.max_attempts)
        waits = and_(JobRow.state == JobState.WAITING, JobRow.available <= self.now)
        candidates = select(JobRow, LaneRow).join(LaneRow, LaneRow.run_id == JobRow.run_id)
        candidates = candidates.where(*may, or_(waits, self._expired()))
        # A row that its worker is ending at this moment is passed over.
        candidates = candidates.order_by(LaneRow.served, JobRow.id).limit(1).with_for_update(skip_locked=True)
        found = self.session.execute(candidates).first()
        if found is None:
            return None
        row, lane = found
        lane.served = self.session.scalars(select(func.max(LaneRow.served))).one() + 1
        row.state = JobState.LEASED
        row.attempts += 1
        row.lease = secrets.token_hex(16)
        row.lease_expires = self.now + seconds
        row.worker = worker
        self.session.flush()
        return Lease(row.lease, _job(row), row.lease_expires)

    def heartbeat(self, lease: Lease, *, seconds: float) -> Lease:
        """The same lease, for ``seconds`` from now.

        Raises:
            LeaseLost: it expired: the worker has to stop.
        """
        row = self._held(lease)
        row.lease_expires = self.now + seconds
        return Lease(lease.id, _job(row), row.lease_expires)

    def complete(self, lease: Lease, result: Mapping[str, Any] | None = None) -> Job:
        """Ends a job well.

        Raises:
            LeaseLost: the lease expired or the job is over; the whole transaction has to be undone.
        """
        row = self._held(lease)
        row.result = dict(result or {})
        return self._end(row, JobState.DONE)

    def fail(self, lease: Lease, error: str, *, retry: bool, delay: float = 0.0) -> Job:
        """Records a failed attempt: with ``retry`` the job waits for its next one, if one is left, or it ends.

        Raises:
            LeaseLost: the lease expired or the job is over.
        """
        row = self._held(lease)
        row.error = error
        if not retry or row.attempts >= row.max_attempts:
            return self._end(row, JobState.FAILED)
        return self._wait(row, delay)

    def release(self, lease: Lease) -> Job:
        """Gives a job back untouched, for a worker that is told to stop: the attempt doesn't count.

        Raises:
            LeaseLost: the lease expired or the job is over.
        """
        row = self._held(lease)
        row.attempts -= 1
        return self._wait(row, 0.0)

    def bury(self) -> list[Job]:
        """Fails the jobs whose last attempt's lease expired, and returns them: their runs need an end, too."""
        dead = select(JobRow).where(self._expired(), JobRow.attempts >= JobRow.max_attempts)
        buried = []
        for row in self.session.scalars(dead.order_by(JobRow.id).with_for_update(skip_locked=True)).all():
            row.error = f"{row.attempts} workers died over it, the last was {row.worker}"
            buried.append(self._end(row, JobState.FAILED))
        return buried

    def give_up(self, worker: str) -> int:
        """Ends the leases of a worker that is known to be dead, so that nobody waits for them to expire."""
        held = select(JobRow).where(JobRow.state == JobState.LEASED, JobRow.worker == worker)
        rows = self.session.scalars(held.with_for_update()).all()
        for row in rows:
            row.lease_expires = self.now
        return len(rows)

    def cancel(self, run_id: str) -> list[Job]:
        """Ends all open jobs of a run; who holds a lease on one has lost it."""
        jobs = select(JobRow).where(JobRow.run_id == run_id, JobRow.state.in_(_OPEN))
        rows = self.session.scalars(jobs.order_by(JobRow.id).with_for_update()).all()
        return [self._end(row, JobState.CANCELLED) for row in rows]

    def get(self, job_id: int) -> Job:
        """A job as it is.

        Raises:
            UnknownRecord: no such job.
        """
        row = self.session.get(JobRow, job_id)
        if row is None:
            raise UnknownRecord(f"no job {job_id}")
        return _job(row)

    def jobs(self, run_id: str | None = None, state: JobState | None = None) -> list[Job]:
        """Jobs in the order in which they were asked for."""
        query = select(JobRow).order_by(JobRow.id)
        query = query if run_id is None else query.where(JobRow.run_id == run_id)
        query = query if state is None else query.where(JobRow.state == state)
        return [_job(row) for row in self.session.scalars(query)]

    def depth(self, run_id: str | None = None) -> dict[JobState, int]:
        """Number of jobs in each state."""
        query = select(JobRow.state, func.count()).group_by(JobRow.state)
        query = query if run_id is None else query.where(JobRow.run_id == run_id)
        counts = dict(self.session.execute(query).tuples().all())
        return {state: counts.get(state, 0) for state in JobState}

    def _expired(self) -> ColumnElement[bool]:
        return and_(JobRow.state == JobState.LEASED, JobRow.lease_expires <= self.now)

    def _held(self, lease: Lease) -> JobRow:
        """The job of a lease that still holds, locked."""
        query = (
            select(JobRow).where(JobRow.id == lease.job.id).with_for_update().execution_options(populate_existing=True)
        )
        row = self.session.scalars(query).one_or_none()
        if row is None:
            raise UnknownRecord(f"no job {lease.job.id}")
        if row.state != JobState.LEASED:
            raise LeaseLost(f"job {row.id} is {row.state}; this lease on it is over")
        if row.lease != lease.id:
            raise LeaseLost(f"job {row.id} was leased again, to {row.worker}; this lease on it is over")
        if row.lease_expires is None or row.lease_expires <= self.now:
            raise LeaseLost(f"the lease on job {row.id} has expired; what was done under it does not count")
        return row

    def _wait(self, row: JobRow, delay: float) -> Job:
        row.state, row.lease, row.lease_expires = JobState.WAITING, None, None
        row.available = self.now + delay
        return _job(row)

    def _end(self, row: JobRow, state: JobState) -> Job:
        row.state, row.lease, row.lease_expires = state, None, None
        row.ended = self.now
        return _job(row)


def _job(row: JobRow) -> Job:
    return as_record(Job, row)
