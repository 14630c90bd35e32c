"""The grader's loop: lease a job, keep the lease while it is done, end it; survive whatever a job does."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from astune.errors import AstuneError, CheckpointError
from autorl_bench.bench import DEV, FINAL, REPLAY, Bench
from autorl_bench.grader.duties import do, write_feedback
from autorl_bench.grader.ends import give_up
from autorl_bench.policy import EvaluationFailure
from autorl_bench.processes import process_name
from autorl_bench.store import JobState, LeaseLost, RunState, StoreError
from autorl_bench.store.records import Lease
from autorl_bench.types import Reason

#: A lease's length, and the pause between two extensions, in seconds.
LEASE, HEARTBEAT = 60.0, 10.0
_IDLE = 0.2
_RETRY_DELAY, _LONGEST_PAUSE = 2.0, 30.0
_KINDS = (DEV, FINAL, REPLAY)


class Grader:
    """One grader process. ``stop`` (or SIGTERM, with :meth:`serve`) lets it finish the job that it is at."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._name = process_name(os.getpid())
        self._stopping = threading.Event()
        #: Scored runs whose result file may not be written yet: a grader may die between the score and the file.
        self._owed = self._scored()
        self._trouble, self._pause = "", _RETRY_DELAY

    def stop(self) -> None:
        """Makes :meth:`serve` return after the job that it is at."""
        self._stopping.set()

    def serve(self) -> None:
        """Works until it is told to stop. A store or a disk that cannot be written is tried again and again."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        while not self._stopping.is_set():
            try:
                if not self.work_once():
                    self._stopping.wait(_IDLE)
                self.write_owed()
                self._trouble, self._pause = "", _RETRY_DELAY
            except (StoreError, CheckpointError) as error:
                self._wait_out(str(error))

    def _wait_out(self, trouble: str) -> None:
        """Says once what is wrong, and waits: somebody has to free the disk, or start the database."""
        if trouble != self._trouble:
            with suppress(OSError):  # the disk may be that of the log, too
                print(f"grader: {trouble}; it is tried again", file=sys.stderr, flush=True)
        self._trouble = trouble
        self._stopping.wait(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def work_once(self) -> bool:
        """Does one job; False when there was none.

        Raises:
            StoreError: what it was about cannot be written now; the attempt counts.
            CheckpointError: as well, the result file: it is written later.
        """
        with self._bench.store.write() as tx:
            tx.queue.give_up(self._name)  # what could not be written the last time
            for dead in tx.queue.bury():
                give_up(
                    tx, dead, Reason("grader_died", f"{dead.attempts} attempts to evaluate it ended with no result")
                )
            lease = tx.queue.lease(_KINDS, worker=self._name, seconds=LEASE)
        if lease is None:
            return False
        with self._kept(lease), suppress(LeaseLost):
            self._do(lease)
        if lease.job.kind == FINAL:
            self._owed.add(lease.job.run_id)
            self.write_owed()
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

    def _scored(self) -> set[str]:
        with self._bench.store.read() as tx:
            return {run.id for run in tx.runs.all(states=[RunState.SCORED])}

    def write_owed(self) -> None:
        """Writes the result files that are not there. Raises CheckpointError: the folder cannot be written."""
        for run_id in sorted(self._owed):
            if not self._bench.home.feedback(run_id).exists():
                with self._bench.store.read() as tx:
                    baseline, score = tx.results.baseline(run_id), tx.results.score(run_id)
                if baseline is not None and score is not None:
                    write_feedback(self._bench, run_id, baseline.evaluation.accuracy, score.evaluation.accuracy)
            self._owed.discard(run_id)


def _reason(error: Exception) -> Reason:
    return error.reason if isinstance(error, EvaluationFailure) else Reason("grader", str(error))
