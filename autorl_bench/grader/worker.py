"""The grader's loop: lease a job, keep the lease while it is done, end it; survive whatever a job does."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from astune.errors import AstuneError
from astune.leftovers import birth
from autorl_bench.bench import DEV, FINAL, REPLAY, Bench
from autorl_bench.grader.duties import do, give_up, write_feedback
from autorl_bench.policy import EvaluationFailure
from autorl_bench.store import JobState, LeaseLost, RunState, StoreError
from autorl_bench.store.records import Lease
from autorl_bench.types import Reason

#: A lease's length, and the pause between two extensions, in seconds.
LEASE, HEARTBEAT = 60.0, 10.0
_IDLE = 0.2
_RETRY_DELAY = 2.0
_KINDS = (DEV, FINAL, REPLAY)


def worker_name(pid: int) -> str:
    """The name under which a grader process leases jobs: unique, also when its id is given to another later."""
    return f"{socket.gethostname()}:{pid}:{birth(pid)}"


class Grader:
    """One grader process. ``stop`` (or SIGTERM, with :meth:`serve`) lets it finish the job that it is at."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._name = worker_name(os.getpid())
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Makes :meth:`serve` return after the job that it is at."""
        self._stopping.set()

    def serve(self) -> None:
        """Works until it is told to stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        self._mend_feedback()
        while not self._stopping.is_set():
            if not self.work_once():
                self._stopping.wait(_IDLE)

    def work_once(self) -> bool:
        """Does one job; False when there was none."""
        with self._bench.store.write() as tx:
            for dead in tx.queue.bury():
                give_up(tx, dead, Reason("grader_died", f"the grader died {dead.attempts} times over this"))
            lease = tx.queue.lease(_KINDS, worker=self._name, seconds=LEASE)
        if lease is None:
            return False
        with self._kept(lease), suppress(LeaseLost):
            self._do(lease)
        return True

    def _do(self, lease: Lease) -> None:
        try:
            do(self._bench, lease)
        except (LeaseLost, StoreError):
            raise
        except (AstuneError, OSError) as error:
            self._fail(lease, error)

    def _fail(self, lease: Lease, error: Exception) -> None:
        """An attempt that failed for a reason of ours: it is tried again, or the run is told that there is no score."""
        with self._bench.store.write() as tx:
            job = tx.queue.fail(lease, f"{type(error).__name__}: {error}", retry=True, delay=_RETRY_DELAY)
            if job.state == JobState.FAILED:
                give_up(tx, job, _reason(error))

    @contextmanager
    def _kept(self, lease: Lease) -> Iterator[None]:
        """Extends the lease from a thread while the block runs; a job takes all of this one."""
        done = threading.Event()

        def extend() -> None:
            while not done.wait(HEARTBEAT):
                with suppress(LeaseLost, StoreError), self._bench.store.write() as tx:
                    tx.queue.heartbeat(lease, seconds=LEASE)

        thread = threading.Thread(target=extend, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _mend_feedback(self) -> None:
        """Writes the result files of scored runs whose grader died between the score and the file."""
        with self._bench.store.read() as tx:
            for run in tx.runs.all(states=[RunState.SCORED]):
                if not self._bench.home.feedback(run.id).exists():
                    baseline, score = tx.results.baseline(run.id), tx.results.score(run.id)
                    if baseline is not None and score is not None:
                        write_feedback(self._bench, run.id, baseline.evaluation.accuracy, score.evaluation.accuracy)


def _reason(error: Exception) -> Reason:
    return error.reason if isinstance(error, EvaluationFailure) else Reason("grader", str(error))
