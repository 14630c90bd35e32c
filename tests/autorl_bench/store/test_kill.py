"""Workers and the server are killed at random instants; every job still ends exactly once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from autorl_bench.store import JobState, Store, open_store
from tests.autorl_bench.store.scenes import new_run

pytestmark = pytest.mark.slow

N_JOBS = 200
N_RUNS = 4
N_KILLS = 8
ROOT = Path(__file__).resolve().parents[3]
SERVER = """
import sys
from autorl_bench.store import open_store
store = open_store(sys.argv[1])
for n in range(int(sys.argv[3])):
    with store.write() as tx:
        job = tx.queue.enqueue("grade", f"run-{n % int(sys.argv[2])}", {"n": n}, key=str(n), max_attempts=100)
    print(n, flush=True)
"""


def spawn(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def spawn_worker(url: str, name: str) -> subprocess.Popen[str]:
    worker = spawn(Path(__file__).with_name("worker.py"), url, name)
    assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    return worker


def open_jobs(store: Store) -> int:
    with store.read() as tx:
        depth = tx.queue.depth()
    return depth[JobState.WAITING] + depth[JobState.LEASED]


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def test_every_job_ends_exactly_once_though_workers_are_killed(url: str):
    store, instants = open_store(url), random.Random(4)
    with store.write() as tx:
        for n in range(N_RUNS):
            new_run(tx, f"run-{n}")
        for n in range(N_JOBS):
            tx.queue.enqueue("grade", f"run-{n % N_RUNS}", {"n": n}, key=str(n), max_attempts=100)
    workers = [spawn_worker(url, f"worker-{n}") for n in range(2)]
    try:
        for n in range(N_KILLS):
            victim = workers.pop(0)
            assert victim.stdout is not None and victim.stdout.readline()  # it has taken a job, or found none
            time.sleep(instants.uniform(0, 0.1))
            kill(victim)
            workers.append(spawn_worker(url, f"replacement-{n}"))
        deadline = time.monotonic() + 120
        while open_jobs(store) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        for worker in workers:
            kill(worker)
    with store.read() as tx:
        jobs = tx.queue.jobs()
        results = Counter(event.detail["job"] for event in tx.ledger.events(what="result"))
    store.close()
    assert {job.state for job in jobs} == {JobState.DONE} and len(jobs) == N_JOBS
    assert max(job.attempts for job in jobs) > 1  # a kill has hit
    assert results == Counter(job.id for job in jobs)


def test_what_a_killed_server_had_answered_is_in_the_store_once(url: str):
    with open_store(url) as store:
        with store.write() as tx:
            for n in range(N_RUNS):
                new_run(tx, f"run-{n}")
        server = spawn("-c", SERVER, url, N_RUNS, N_JOBS)
        assert server.stdout is not None
        answered = [int(server.stdout.readline()) for _ in range(25)]
        server.kill()
        answered += [int(line) for line in server.stdout]
        kill(server)
        with store.read() as tx:
            kept = {job.payload["n"] for job in tx.queue.jobs()}
        assert set(answered) <= kept
        with spawn("-c", SERVER, url, N_RUNS, N_JOBS) as again:  # every client repeats its request
            assert again.stdout is not None
            again.stdout.read()
        with store.read() as tx:
            assert [sorted(job.payload["n"] for job in tx.queue.jobs())] == [list(range(N_JOBS))]
