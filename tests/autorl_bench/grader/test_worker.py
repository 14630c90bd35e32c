"""What a grader does with each kind of job, in this process; no score comes from anything but an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from astune.errors import CheckpointError
from autorl_bench.grader.worker import Grader
from autorl_bench.store import JobState, QueryState, Role, RunState, SubmissionState
from autorl_bench.store.records import Run
from autorl_bench.types import Reason
from tests.autorl_bench.grader.scenes import RAISING, broken
from tests.autorl_bench.small_bench import N, SmallBench


class Clock:
    """A clock that a test moves."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def small(tmp_path: Path, clock: Clock) -> SmallBench:
    return SmallBench.make(tmp_path, clock=clock)


@pytest.fixture
def grader(small: SmallBench) -> Grader:
    return Grader(small.bench)


def submitted(small: SmallBench, run: Run, **changes: object) -> Run:
    submission, _ = small.bench.submit(run, small.model(run, **changes))
    return small.bench.declare_final(run, submission.number, actor="agent")


def start_with(small: SmallBench, checker: str) -> Run:
    run, _ = small.bench.create(broken(small, "broken", checker), "tester", {}, isolation="none")
    small.bench.agent_started(run.id, 1, "none")
    return small.run(run.id)


def feedback(small: SmallBench, run: Run) -> dict[str, float]:
    return json.loads(small.home.feedback(run.id).read_text())


def test_there_is_nothing_to_do_in_an_empty_queue(grader: Grader) -> None:
    assert not grader.work_once()


def test_the_base_model_is_measured_on_dev_for_the_first_run_alone(small: SmallBench, grader: Grader) -> None:
    for _ in range(2):
        run, _ = small.start()
        small.bench.ask(run, small.model(run))
        assert grader.work_once()
        assert len(small.evaluations(run.id, Role.DEV_BASELINE)) == 1
    logs = [path.name for path in (small.home.vault / "logs").rglob("*.eval")]
    assert sum("dev-baseline" in name for name in logs) == 1


def test_the_final_submission_opens_the_test_once(small: SmallBench, grader: Grader) -> None:
    run, _ = small.start()
    submitted(small, run)
    assert grader.work_once() and not grader.work_once()
    assert small.run(run.id).state == RunState.SCORED
    for role, split in ((Role.BASELINE, "test"), (Role.FINAL, "test"), (Role.TWIN, "twin")):
        [record] = small.evaluations(run.id, role)
        assert len(record.evaluation.results) == N[split]
    small.check_honest()


def test_a_worse_model_scores_less_than_the_base(small: SmallBench, grader: Grader) -> None:
    run, _ = small.start()
    submitted(small, run, mute=True)
    grader.work_once()
    assert feedback(small, run)["score"] == 0.0 < feedback(small, run)["baseline"]


def test_a_base_model_that_is_submitted_is_flagged(small: SmallBench, grader: Grader) -> None:
    run, _ = small.start()
    submitted(small, run, nudge=0.0)
    grader.work_once()
    assert small.flags(run.id) == ["identical_to_base"]
    assert feedback(small, run)["score"] == feedback(small, run)["baseline"]


def test_a_model_that_cannot_be_sampled_from_is_invalid_on_dev(small: SmallBench, grader: Grader) -> None:
    run, _ = small.start()
    query = small.bench.ask(run, small.model(run, nudge=1e38))
    grader.work_once()
    with small.bench.store.read() as tx:
        query = tx.submissions.dev_query(query.id)
    assert (query.state, query.reasons[0].code) == (QueryState.INVALID, "not_finite")
    assert small.bench.remaining(run.id).dev_queries == 3


def test_a_final_model_that_cannot_be_sampled_from_makes_the_run_invalid(small: SmallBench, grader: Grader) -> None:
    run, _ = small.start()
    submitted(small, run, nudge=1e38)
    grader.work_once()
    ended = small.run(run.id)
    assert (ended.state, ended.reasons[0].code) == (RunState.INVALID, "not_finite")
    assert not small.home.feedback(run.id).exists()
    small.check_honest()


def test_a_checker_that_raises_is_our_failure_and_never_a_score(
    small: SmallBench, grader: Grader, clock: Clock
) -> None:
    run = start_with(small, RAISING)
    query = small.bench.ask(run, small.model(run))
    for _ in range(3):
        assert grader.work_once()
        clock.now += 10
    assert not grader.work_once()
    with small.bench.store.read() as tx:
        query = tx.submissions.dev_query(query.id)
    assert query.state == QueryState.INFRASTRUCTURE
    assert "not to be read" in query.reasons[0].message
    assert small.bench.remaining(run.id).dev_queries == 4


def test_a_final_that_we_fail_to_evaluate_ends_as_infrastructure(
    small: SmallBench, grader: Grader, clock: Clock
) -> None:
    run = start_with(small, RAISING)
    submitted(small, run)
    for _ in range(3):
        assert grader.work_once()
        clock.now += 10
    ended = small.run(run.id)
    assert ended.state == RunState.INFRASTRUCTURE
    assert "not to be read" in ended.reasons[0].message
    with small.bench.store.read() as tx:
        final = tx.submissions.final(run.id)
        assert final is not None and final.state == SubmissionState.INFRASTRUCTURE
        assert tx.results.score(run.id) is None
    assert not small.home.feedback(run.id).exists()


def test_a_run_that_is_ended_meanwhile_gets_no_score(small: SmallBench, grader: Grader) -> None:
    run, _ = small.start()
    submitted(small, run)
    small.bench.end(run.id, RunState.INTERRUPTED, Reason("stopped", "the operator ended it"))
    assert not grader.work_once()
    assert small.run(run.id).state == RunState.INTERRUPTED
    small.check_honest()


def test_a_result_file_that_cannot_be_written_is_written_later(small: SmallBench, grader: Grader) -> None:
    run, _ = small.start()
    submitted(small, run)
    in_the_way = small.home.root / "results" / run.id
    in_the_way.write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match=str(in_the_way)):
        grader.work_once()
    assert small.run(run.id).state == RunState.SCORED
    in_the_way.unlink()
    grader.stop()
    Grader(small.bench).write_owed()
    assert set(feedback(small, run)) == {"baseline", "score"}


def test_a_new_grader_writes_the_result_file_that_a_dead_one_owes(small: SmallBench, grader: Grader) -> None:
    run, _ = small.start()
    submitted(small, run)
    grader.work_once()
    before = feedback(small, run)
    small.home.feedback(run.id).unlink()
    Grader(small.bench).write_owed()
    assert feedback(small, run) == before


def test_what_two_runs_wait_for_is_done_in_turns(small: SmallBench, grader: Grader) -> None:
    (one, _), (other, _) = small.start(), small.start()
    for number in range(1, 4):
        small.bench.ask(one, small.model(one, nudge=number * 1e-3))
    small.bench.ask(other, small.model(other))
    for _ in range(2):
        grader.work_once()
    assert [job.state for job in small.jobs(other.id)] == [JobState.DONE]
    assert [job.state for job in small.jobs(one.id)] == [JobState.DONE, JobState.WAITING, JobState.WAITING]
