"""The rules of a run, without HTTP and without processes: what may be asked when, and what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from autorl_bench.bench import MAX_NOTES, SPARE_LOOKS, SubmissionInvalid
from autorl_bench.store import (
    Conflict,
    JobState,
    LimitReached,
    QueryState,
    RunState,
    Track,
    TransitionError,
    UnknownRecord,
)
from autorl_bench.store.records import DevQuery, Usage
from autorl_bench.types import Reason
from tests.autorl_bench.small_bench import SmallBench, write_scenario


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def small(tmp_path: Path, clock: Clock) -> SmallBench:
    return SmallBench.make(tmp_path, clock=clock)


def fail_to_answer(small: SmallBench, query: DevQuery) -> None:
    with small.bench.store.write() as tx:
        tx.submissions.refuse_dev(query.id, QueryState.INFRASTRUCTURE, (Reason("power", "the lights went out"),))


# --- runs ---------------------------------------------------------------------------------------------------------


def test_a_new_run_has_its_folders_and_its_rules_outlive_a_change_of_the_scenario(small: SmallBench) -> None:
    run, _ = small.start()
    workspace = small.home.workspace(run.id)
    assert sorted(path.name for path in workspace.iterdir()) == ["code", "output"]
    before = small.bench.scenario_of(run)
    write_scenario(small.scenarios, ("max_tokens: 2", "max_tokens: 3"))
    assert small.bench.scenarios.get("tiny").generation.max_tokens == 3
    assert small.bench.scenario_of(run) == before


def test_time_runs_while_the_agent_does_and_not_between_attempts(small: SmallBench, clock: Clock) -> None:
    run, _ = small.start()
    clock.now += 30
    assert small.bench.remaining(run.id).seconds == 90
    small.bench.agent_ended(run.id, 1, "interrupted", None, Usage(31.0, 40.0))
    clock.now += 1000
    assert small.bench.remaining(run.id).seconds == 89
    small.bench.agent_started(run.id, 2, "none")
    clock.now += 9
    assert small.bench.remaining(run.id).seconds == 80
    assert small.bench.used(run.id).cpu_seconds == 40


def test_what_attempts_used_adds_up_and_peaks_do_not(small: SmallBench) -> None:
    run, _ = small.start()
    small.bench.agent_ended(run.id, 1, "interrupted", None, Usage(10.0, 20.0, peak_memory=5, disk=7))
    small.bench.report_tokens(run.id, 11)
    small.bench.agent_started(run.id, 2, "none")
    small.bench.agent_ended(run.id, 2, "exit", 0, Usage(1.0, 2.0, peak_memory=4, disk=8))
    assert small.bench.used(run.id) == Usage(11.0, 22.0, peak_memory=5, disk=8, agent_tokens=11)


# --- questions ----------------------------------------------------------------------------------------------------


def test_the_same_model_under_two_names_is_one_question(small: SmallBench) -> None:
    run, _ = small.start()
    first = small.bench.ask(run, small.model(run, "output/model"))
    again = small.bench.ask(run, small.model(run, "kept/copy"))
    assert again.id == first.id
    assert small.bench.remaining(run.id).dev_queries == 3
    assert len(small.jobs(run.id)) == 1


def test_questions_end_with_their_budget(small: SmallBench) -> None:
    run, _ = small.start()
    for number in range(1, 5):
        small.bench.ask(run, small.model(run, nudge=number * 1e-3))
    with pytest.raises(LimitReached, match="asked 4"):
        small.bench.ask(run, small.model(run, nudge=5e-3))
    assert small.bench.remaining(run.id).dev_queries == 0


def test_a_question_that_we_failed_to_answer_costs_nothing_and_can_be_asked_again(small: SmallBench) -> None:
    run, _ = small.start()
    path = small.model(run)
    failed = small.bench.ask(run, path)
    fail_to_answer(small, failed)
    assert small.bench.remaining(run.id).dev_queries == 4
    again = small.bench.ask(run, path)
    assert again.id != failed.id
    assert again.state == QueryState.OPEN
    assert small.bench.ask(run, path).id == again.id


def test_nothing_is_asked_when_the_time_is_over(small: SmallBench, clock: Clock) -> None:
    run, _ = small.start()
    path = small.model(run)
    clock.now += 121
    with pytest.raises(LimitReached, match="120"):
        small.bench.ask(run, path)


def test_nothing_is_asked_after_the_final_submission(small: SmallBench) -> None:
    run, _ = small.start()
    path = small.model(run)
    submission, _ = small.bench.submit(run, path)
    small.bench.declare_final(run, submission.number, actor="agent")
    with pytest.raises(TransitionError, match="submitted"):
        small.bench.ask(run, path)


def test_an_experiment_of_another_run_is_unknown(small: SmallBench) -> None:
    (run, _), (other, _) = small.start(), small.start()
    hypothesis = small.bench.propose(other, "more steps help", "")
    experiment = small.bench.begin(other, hypothesis.number, {}, None)
    with pytest.raises(Conflict, match="no experiment"):
        small.bench.ask(run, small.model(run), experiment.number)


def test_folders_are_looked_at_a_bounded_number_of_times(small: SmallBench) -> None:
    run, _ = small.start()
    with small.bench.store.write() as tx:
        for _ in range(SPARE_LOOKS + 2 * (4 + 3)):
            tx.ledger.note("submission.looked_at", actor="agent", run_id=run.id)
    with pytest.raises(LimitReached, match="looked at"):
        small.bench.ask(run, "nowhere")


# --- submissions --------------------------------------------------------------------------------------------------


def test_the_same_model_again_is_the_same_submission(small: SmallBench) -> None:
    run, _ = small.start()
    path = small.model(run)
    assert small.bench.submit(run, path)[0].number == small.bench.submit(run, path)[0].number == 1
    assert small.bench.remaining(run.id).submissions == 2


def test_a_submission_is_kept_as_it_was_whatever_the_agent_writes_later(small: SmallBench) -> None:
    run, _ = small.start()
    submission, prepared = small.bench.submit(run, small.model(run))
    before = (Path(submission.path) / "model.safetensors").read_bytes()
    small.model(run, mute=True)
    assert (prepared.folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../..", "outside_workspace"),
        ("/etc", "outside_workspace"),
        ("output/nothing", "not_found"),
        ("code", "no_weights"),
        ("", "bad_path"),
    ],
)
def test_a_folder_that_is_no_model_is_refused_with_the_reason(small: SmallBench, path: str, code: str) -> None:
    run, _ = small.start()
    (small.home.workspace(run.id) / "code" / "config.json").write_text((small.base / "config.json").read_text())
    with pytest.raises(SubmissionInvalid) as refused:
        small.bench.submit(run, path)
    assert refused.value.reason.code == code


def test_another_runs_model_is_outside(small: SmallBench) -> None:
    (run, _), (other, _) = small.start(), small.start()
    small.model(other)
    with pytest.raises(SubmissionInvalid) as refused:
        small.bench.submit(run, f"workspace/{other.id}/output/model")
    assert refused.value.reason.code in ("outside_workspace", "not_found")


def test_only_a_submission_of_the_run_can_be_final(small: SmallBench) -> None:
    run, _ = small.start()
    with pytest.raises(Conflict, match="no submission 1"):
        small.bench.declare_final(run, 1, actor="agent")


# --- the end of an agent's part -----------------------------------------------------------------------------------


def test_what_lies_in_output_model_is_final_when_nothing_was_declared(small: SmallBench) -> None:
    run, token = small.start()
    small.model(run)
    assert small.bench.finish(run.id).state == RunState.SUBMITTED
    assert [job.kind for job in small.jobs(run.id)] == ["final"]
    with small.bench.store.read() as tx:
        assert tx.runs.authenticate(token) is None


def test_what_was_declared_stands(small: SmallBench) -> None:
    run, _ = small.start()
    chosen, _ = small.bench.submit(run, small.model(run))
    small.bench.declare_final(run, chosen.number, actor="agent")
    small.model(run, mute=True)
    assert small.bench.finish(run.id).state == RunState.SUBMITTED
    with small.bench.store.read() as tx:
        final = tx.submissions.final(run.id)
    assert final is not None and final.digest == chosen.digest


def test_an_agent_that_left_nothing_makes_the_run_invalid_with_the_reason(small: SmallBench) -> None:
    run, _ = small.start()
    ended = small.bench.finish(run.id)
    assert (ended.state, ended.reasons[0].code) == (RunState.INVALID, "not_found")


def test_the_last_submission_is_final_when_no_more_were_allowed(small: SmallBench) -> None:
    run, _ = small.start()
    for number in range(1, 4):
        last, _ = small.bench.submit(run, small.model(run, nudge=number * 1e-3))
    small.model(run, nudge=4e-3)
    small.bench.finish(run.id)
    with small.bench.store.read() as tx:
        final = tx.submissions.final(run.id)
    assert final is not None and final.number == last.number == 3


def test_a_run_whose_agent_never_started_is_interrupted(small: SmallBench) -> None:
    run, _ = small.bench.create(small.bench.scenarios.get("tiny"), "late", {}, isolation="none")
    ended = small.bench.finish(run.id)
    assert (ended.state, ended.reasons[0].code) == (RunState.INTERRUPTED, "not_started")


def test_a_replayed_run_queues_its_training_once(small: SmallBench) -> None:
    run, _ = small.start(track=Track.REPLAY)
    for _ in range(2):
        assert small.bench.finish(run.id).state == RunState.RUNNING
    assert [job.kind for job in small.jobs(run.id)] == ["replay"]


def test_nothing_of_an_ended_run_is_evaluated_any_more(small: SmallBench) -> None:
    run, _ = small.start()
    small.bench.ask(run, small.model(run))
    small.bench.end(run.id, RunState.INTERRUPTED, Reason("stopped", "somebody stopped it"))
    assert [job.state for job in small.jobs(run.id)] == [JobState.CANCELLED]
    again = small.bench.end(run.id, RunState.INFRASTRUCTURE, Reason("late", "too late"))
    assert (again.state, again.reasons[0].code) == (RunState.INTERRUPTED, "stopped")


def test_finishing_a_run_that_is_not_there_is_refused(small: SmallBench) -> None:
    with pytest.raises(UnknownRecord, match="no run 'nobody'"):
        small.bench.finish("nobody")


# --- the notebook -------------------------------------------------------------------------------------------------


def test_the_notebook_has_an_end(small: SmallBench) -> None:
    run, _ = small.start()
    with small.bench.store.write() as tx:
        for number in range(MAX_NOTES):
            tx.notebook.propose(run.id, f"hypothesis {number}", "")
    with pytest.raises(LimitReached, match="full"):
        small.bench.propose(run, "one more", "")


def test_an_experiment_needs_a_hypothesis_of_the_run(small: SmallBench) -> None:
    run, _ = small.start()
    with pytest.raises(Conflict, match="no hypothesis 3"):
        small.bench.begin(run, 3, {}, None)
