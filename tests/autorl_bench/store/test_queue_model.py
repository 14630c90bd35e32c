"""Whatever is asked of the queue, in whatever order, it does what a model in forty lines does."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test

from autorl_bench.store import JobState, LeaseLost, Store
from autorl_bench.store.records import Job, Lease
from autorl_bench.store.tables import Base
from tests.autorl_bench.store.conftest import Clock
from tests.autorl_bench.store.scenes import new_run

RUNS = ["a", "b", "c"]
SECONDS = 10.0


@dataclass
class Model:
    """What the queue should know of one job."""

    run_id: str
    max_attempts: int
    state: JobState = JobState.WAITING
    attempts: int = 0
    available: float = 0.0
    lease: str | None = None
    expires: float = 0.0

    def may_be_leased(self, now: float) -> bool:
        waits = self.state == JobState.WAITING and self.available <= now
        expired = self.state == JobState.LEASED and self.expires <= now
        return (waits or expired) and self.attempts < self.max_attempts

    def is_held(self, lease: str, now: float) -> bool:
        return self.state == JobState.LEASED and self.lease == lease and self.expires > now

    def is_dead(self, now: float) -> bool:
        return self.state == JobState.LEASED and self.expires <= now and self.attempts == self.max_attempts


class QueueMachine(RuleBasedStateMachine):
    """Requests, workers and the passing of time, in any order."""

    leases = Bundle("leases")

    def __init__(self, store: Store, clock: Clock):
        super().__init__()
        self.store, self.clock = store, clock
        self.jobs: dict[int, Model] = {}
        self.keys: dict[tuple[str, str], int] = {}
        self.turns: list[str] = []  # the run that was served longest ago first
        with store.write() as tx:
            for table in reversed(Base.metadata.sorted_tables):
                tx.session.execute(table.delete())
            for run_id in RUNS:
                new_run(tx, run_id)
        self.enqueue(RUNS[0], "1", 3)
        self.enqueue(RUNS[1], "1", 2)

    @rule(run_id=st.sampled_from(RUNS), key=st.sampled_from("12345"), max_attempts=st.integers(1, 3))
    def enqueue(self, run_id: str, key: str, max_attempts: int):
        with self.store.write() as tx:
            job = tx.queue.enqueue("grade", run_id, {"key": key}, key=key, max_attempts=max_attempts)
        expected = self.keys.setdefault((run_id, key), job.id)
        assert job.id == expected
        self.jobs.setdefault(job.id, Model(run_id, max_attempts, available=self.clock.now))

    @rule(target=leases)
    def lease(self):
        with self.store.write() as tx:
            lease = tx.queue.lease(["grade"], worker="w", seconds=SECONDS)
        order = {run_id: place for place, run_id in enumerate(self.turns, start=1)}
        ready = [(order.get(job.run_id, 0), n) for n, job in self.jobs.items() if job.may_be_leased(self.clock.now)]
        assert (lease and lease.job.id) == (min(ready)[1] if ready else None)
        if lease is None:
            return multiple()
        job = self.jobs[lease.job.id]
        job.state, job.attempts, job.lease = JobState.LEASED, job.attempts + 1, lease.id
        job.expires = self.clock.now + SECONDS
        self.turns = [run_id for run_id in self.turns if run_id != job.run_id] + [job.run_id]
        return lease

    def ask(self, lease: Lease, method: str, **options) -> Model | None:
        """Asks under a lease; the job's model if the lease holds, as it must exactly if the model says so."""
        job = self.jobs[lease.job.id]
        held = job.is_held(lease.id, self.clock.now)
        try:
            with self.store.write() as tx:
                tx.ledger.note("done under a lease", actor="w", run_id=job.run_id)
                getattr(tx.queue, method)(lease, **options)
        except LeaseLost:
            assert not held
            return None
        assert held
        return job

    @rule(lease=leases)
    def heartbeat(self, lease: Lease):
        job = self.ask(lease, "heartbeat", seconds=SECONDS)
        if job:
            job.expires = self.clock.now + SECONDS

    @rule(lease=leases)
    def complete(self, lease: Lease):
        job = self.ask(lease, "complete")
        if job:
            job.state = JobState.DONE

    @rule(lease=leases, retry=st.booleans(), delay=st.sampled_from([0.0, 5.0]))
    def fail(self, lease: Lease, retry: bool, delay: float):
        job = self.ask(lease, "fail", error="x", retry=retry, delay=delay)
        if job:
            again = retry and job.attempts < job.max_attempts
            job.state = JobState.WAITING if again else JobState.FAILED
            job.available = self.clock.now + delay

    @rule(lease=leases)
    def release(self, lease: Lease):
        job = self.ask(lease, "release")
        if job:
            job.state, job.attempts, job.available = JobState.WAITING, job.attempts - 1, self.clock.now

    @rule(lease=leases)
    def complete_too_late(self, lease: Lease):
        self.clock.now += SECONDS
        self.complete(lease)

    @rule()
    def bury(self):
        with self.store.write() as tx:
            buried = {job.id for job in tx.queue.bury()}
        assert buried == {n for n, job in self.jobs.items() if job.is_dead(self.clock.now)}
        for n in buried:
            self.jobs[n].state = JobState.FAILED

    @rule(run_id=st.sampled_from(RUNS))
    def cancel(self, run_id: str):
        with self.store.write() as tx:
            cancelled = {job.id for job in tx.queue.cancel(run_id)}
        still_open = (JobState.WAITING, JobState.LEASED)
        assert cancelled == {n for n, job in self.jobs.items() if job.run_id == run_id and job.state in still_open}
        for n in cancelled:
            self.jobs[n].state = JobState.CANCELLED

    @rule(seconds=st.sampled_from([1.0, 4.0, SECONDS]))
    def wait(self, seconds: float):
        self.clock.now += seconds

    @invariant()
    def the_store_agrees(self):
        with self.store.read() as tx:
            found = {job.id: seen(job) for job in tx.queue.jobs()}
        assert found == {n: (job.run_id, job.state, job.attempts, job.max_attempts) for n, job in self.jobs.items()}


def seen(job: Job) -> tuple[str, JobState, int, int]:
    return job.run_id, job.state, job.attempts, job.max_attempts


def test_the_queue_does_what_its_model_does(store: Store, clock: Clock):
    limits = settings(
        max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(lambda: QueueMachine(store, clock), settings=limits)
