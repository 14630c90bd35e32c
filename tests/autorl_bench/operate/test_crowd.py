"""200 evaluation requests at once, over ten runs, through real HTTP to one grader: in turns, and none is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from autorl_bench.api import EvaluationView
from autorl_bench.store import JobState, QueryState, Role
from autorl_bench.store.records import Run
from tests.autorl_bench.grader.scenes import holding
from tests.autorl_bench.small_bench import N, Served, wait_until

pytestmark = pytest.mark.slow

RUNS, MODELS, ASKED = 10, 4, 5  # each model of each run is asked for five times at once


def test_200_requests_at_once_are_answered_in_turns_and_none_is_lost(served_bench: Served) -> None:
    small, hold = served_bench.small, holding(served_bench.small, "crowd")
    runs: list[tuple[Run, str]] = []
    for _ in range(RUNS):
        run, token = small.bench.create(hold.scenario, "tester", {}, isolation="none")
        small.bench.agent_started(run.id, 1, "none")
        runs.append((run, token))
        for number in range(MODELS):
            small.model(run, f"output/{number}", nudge=(number + 1) * 1e-3)
    questions = [(run, token, number) for number in range(MODELS) for run, token in runs] * ASKED
    assert len(questions) == 200
    together = threading.Barrier(len(questions))

    def ask(question: tuple[Run, str, int]) -> EvaluationView:
        _, token, number = question
        with served_bench.client(token, patience=600) as client:
            together.wait()
            return client.evaluate(f"output/{number}", timeout=600)

    hold.after(0)  # nothing is answered before everything is asked
    with ThreadPoolExecutor(len(questions)) as pool:
        answers = pool.map(ask, questions)
        everything = RUNS * MODELS
        wait_until(lambda: sum(len(small.jobs(run.id)) for run, _ in runs) == everything, "all questions in the queue")
        hold.release()
        ids = {(run.id, number): set[int]() for run, _, number in questions}
        for (run, _, number), answer in zip(questions, answers, strict=True):
            assert (answer.state, answer.items) == (QueryState.ANSWERED, N["dev"])
            ids[run.id, number].add(answer.id)

    assert all(len(same) == 1 for same in ids.values()), "a model is one question, however often it is asked for"
    for run, token in runs:
        assert len(small.evaluations(run.id, Role.DEV)) == MODELS
        assert served_bench.client(token).status().dev_queries_left == 0
    jobs = sorted((job for run, _ in runs for job in small.jobs(run.id)), key=lambda job: job.ended)
    assert {(job.state, job.attempts) for job in jobs} == {(JobState.DONE, 1)}
    turns = [job.run_id for job in jobs]
    for first in range(0, everything, RUNS):
        assert len(set(turns[first : first + RUNS])) == RUNS, "each run has its turn before any has its next"
