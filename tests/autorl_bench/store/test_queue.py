"""The queue: one end a job, fair between runs, leases that expire, requests that may be repeated."""

from __future__ import annotations

import threading

import pytest

from autorl_bench.store import Conflict, JobState, LeaseLost, RecordError, Store, TransitionError, UnknownRecord
from autorl_bench.store.records import Job, Lease
from tests.autorl_bench.store.conftest import Clock
from tests.autorl_bench.store.scenes import evaluating, new_run, score

SECONDS = 30.0


def enqueue(store: Store, run_id: str, key: str, **options) -> Job:
    with store.write() as tx:
        return tx.queue.enqueue("grade", run_id, {"key": key}, key=key, **options)


def lease(store: Store, kind: str = "grade", worker: str = "w") -> Lease | None:
    with store.write() as tx:
        return tx.queue.lease([kind], worker=worker, seconds=SECONDS)


def leased(store: Store) -> Lease:
    taken = lease(store)
    assert taken is not None
    return taken


@pytest.fixture
def one(store: Store) -> Job:
    """A job of a run."""
    with store.write() as tx:
        new_run(tx, "r")
    return enqueue(store, "r", "1", max_attempts=2)


def test_a_job_is_done_once(store: Store, one: Job):
    taken = leased(store)
    with store.write() as tx:
        done = tx.queue.complete(taken, {"score": 1})
    assert (done.id, done.state, done.result, done.attempts) == (one.id, JobState.DONE, {"score": 1}, 1)
    assert lease(store) is None


@pytest.mark.parametrize("end", ["complete", "fail", "release", "heartbeat"])
def test_nothing_follows_a_jobs_end(store: Store, one: Job, end: str):
    taken = leased(store)
    with store.write() as tx:
        tx.queue.complete(taken)
    options = {"fail": {"error": "x", "retry": True}, "heartbeat": {"seconds": 1.0}}.get(end, {})
    with pytest.raises(LeaseLost, match="is done"), store.write() as tx:
        getattr(tx.queue, end)(taken, **options)


def test_a_leased_job_is_not_leased_again(store: Store, one: Job):
    leased(store)
    assert lease(store, worker="other") is None


def test_an_expired_lease_completes_nothing_even_if_nobody_took_the_job(store: Store, one: Job, clock: Clock):
    taken = leased(store)
    clock.now += SECONDS
    with pytest.raises(LeaseLost, match="has expired"), store.write() as tx:
        tx.queue.complete(taken)


def test_an_expired_job_goes_to_another_and_its_first_worker_has_lost_it(store: Store, one: Job, clock: Clock):
    first = leased(store)
    clock.now += SECONDS
    second = lease(store, worker="other")
    assert second is not None and (second.job.id, second.job.attempts) == (one.id, 2)
    with pytest.raises(LeaseLost, match="leased again, to other"), store.write() as tx:
        tx.queue.complete(first)


def test_a_score_under_a_lost_lease_is_undone(store: Store, clock: Clock):
    final = evaluating(store)
    enqueue(store, "r", "1")
    taken = leased(store)
    clock.now += SECONDS
    with pytest.raises(LeaseLost), store.write() as tx:
        score(tx, final)
        tx.queue.complete(taken)
    with store.read() as tx:
        assert tx.results.of_run("r") == []


def test_a_heartbeat_keeps_a_lease(store: Store, one: Job, clock: Clock):
    taken = leased(store)
    for _ in range(5):
        clock.now += SECONDS - 1
        with store.write() as tx:
            taken = tx.queue.heartbeat(taken, seconds=SECONDS)
    with store.write() as tx:
        assert tx.queue.complete(taken).attempts == 1


def test_attempts_are_limited_when_workers_die(store: Store, one: Job, clock: Clock):
    for _ in range(2):
        leased(store)
        clock.now += SECONDS
    assert lease(store) is None
    with store.write() as tx:
        (buried,) = tx.queue.bury()
        assert tx.queue.bury() == []
    assert (buried.id, buried.state, buried.error) == (
        one.id,
        JobState.FAILED,
        "2 workers died over it, the last was w",
    )


def test_a_job_at_work_is_not_buried(store: Store, one: Job, clock: Clock):
    leased(store)
    clock.now += SECONDS
    leased(store)
    with store.write() as tx:
        assert tx.queue.bury() == []


def test_a_failed_attempt_is_tried_again_after_its_delay(store: Store, one: Job, clock: Clock):
    taken = leased(store)
    with store.write() as tx:
        tx.queue.fail(taken, "out of memory", retry=True, delay=10)
    assert lease(store) is None
    clock.now += 10
    assert leased(store).job.error == "out of memory"


def test_the_last_failed_attempt_ends_the_job(store: Store, one: Job):
    for expected in (JobState.WAITING, JobState.FAILED):
        taken = leased(store)
        with store.write() as tx:
            assert tx.queue.fail(taken, "x", retry=True).state == expected


def test_a_failure_that_no_retry_helps_ends_the_job(store: Store, one: Job):
    taken = leased(store)
    with store.write() as tx:
        assert tx.queue.fail(taken, "pickle", retry=False).state == JobState.FAILED


def test_a_worker_that_stops_gives_its_job_back_without_an_attempt(store: Store, one: Job):
    taken = leased(store)
    with store.write() as tx:
        tx.queue.release(taken)
    again = leased(store)
    assert again.job.attempts == 1
    with pytest.raises(LeaseLost), store.write() as tx:
        tx.queue.complete(taken)


def test_a_cancelled_job_ends_and_its_worker_learns_of_it(store: Store, one: Job):
    taken = leased(store)
    with store.write() as tx:
        assert [job.state for job in tx.queue.cancel("r")] == [JobState.CANCELLED]
        assert tx.queue.cancel("r") == []
    with pytest.raises(LeaseLost, match="is cancelled"), store.write() as tx:
        tx.queue.heartbeat(taken, seconds=1)


def test_a_request_again_is_the_same_job_even_after_its_end(store: Store, one: Job):
    taken = leased(store)
    with store.write() as tx:
        tx.queue.complete(taken, {"score": 2})
    assert enqueue(store, "r", "1").result == {"score": 2}
    assert lease(store) is None


def test_a_key_stands_for_one_request(store: Store, one: Job):
    with pytest.raises(Conflict, match="another request"), store.write() as tx:
        tx.queue.enqueue("grade", "r", {"key": "other"}, key="1")


def test_two_runs_may_use_the_same_key(store: Store, one: Job):
    with store.write() as tx:
        new_run(tx, "s")
    assert enqueue(store, "s", "1").id != one.id


def test_a_job_for_no_run_is_refused(store: Store):
    with pytest.raises(UnknownRecord, match="no run 'missing'"):
        enqueue(store, "missing", "1")


def test_a_job_without_attempts_is_refused(store: Store, one: Job):
    with pytest.raises(RecordError, match="at least one"):
        enqueue(store, "r", "2", max_attempts=0)


def test_a_worker_gets_the_kinds_it_asks_for(store: Store, one: Job):
    assert lease(store, kind="train") is None


def test_a_flood_does_not_starve_another_run(store: Store):
    with store.write() as tx:
        new_run(tx, "flood"), new_run(tx, "calm")
        for n in range(200):
            tx.queue.enqueue("grade", "flood", {}, key=str(n))
        for n in range(3):
            tx.queue.enqueue("grade", "calm", {}, key=str(n))
    served = [leased(store).job.run_id for _ in range(8)]
    assert served == ["flood", "calm"] * 3 + ["flood"] * 2


def test_a_run_that_asks_late_is_next(store: Store):
    with store.write() as tx:
        new_run(tx, "flood"), new_run(tx, "late")
        for n in range(5):
            tx.queue.enqueue("grade", "flood", {}, key=str(n))
    served = [leased(store).job.run_id for _ in range(2)]
    enqueue(store, "late", "1")
    served += [leased(store).job.run_id for _ in range(2)]
    assert served == ["flood", "flood", "late", "flood"]


def test_jobs_of_a_run_are_served_in_order(store: Store):
    with store.write() as tx:
        new_run(tx, "r")
    ids = [enqueue(store, "r", str(n)).id for n in range(4)]
    assert [leased(store).job.id for _ in ids] == ids


def test_depth_counts_every_state(store: Store, one: Job):
    enqueue(store, "r", "2")
    leased(store)
    with store.read() as tx:
        depth = tx.queue.depth("r")
        assert [job.id for job in tx.queue.jobs("r", JobState.LEASED)] == [one.id]
    assert (depth[JobState.WAITING], depth[JobState.LEASED], depth[JobState.DONE]) == (1, 1, 0)


def test_two_threads_with_one_lease_complete_it_once(store: Store, one: Job):
    taken, outcomes, start = leased(store), [], threading.Barrier(2)

    def complete() -> None:
        start.wait()
        try:
            with store.write() as tx:
                tx.queue.complete(taken)
            outcomes.append("done")
        except (LeaseLost, TransitionError):
            outcomes.append("lost")

    threads = [threading.Thread(target=complete) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done", "lost"]


def test_one_request_from_many_threads_is_one_job(store: Store):
    with store.write() as tx:
        new_run(tx, "r")
    ids: list[int] = []
    threads = [threading.Thread(target=lambda: ids.append(enqueue(store, "r", "1").id)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 4 and len(set(ids)) == 1


def test_the_leases_of_a_worker_that_is_known_to_be_dead_are_offered_at_once(store):
    with store.write() as tx:
        new_run(tx, "r")
        tx.queue.enqueue("dev", "r", {}, key="k")
        assert tx.queue.lease(["dev"], worker="dead", seconds=1000) is not None
        assert tx.queue.lease(["dev"], worker="next", seconds=1000) is None
        assert tx.queue.give_up("dead") == 1
    with store.write() as tx:
        lease = tx.queue.lease(["dev"], worker="next", seconds=1000)
    assert lease is not None and lease.job.attempts == 2
