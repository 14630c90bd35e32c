"""kill -9 of the grader, of the server, of both, at chosen points of an evaluation; and disks that are full."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from autorl_bench.operate.serving import options_of, served
from autorl_bench.store import JobState, QueryState, Role, RunState
from autorl_bench.store.records import Run
from tests.autorl_bench.grader.scenes import DEADLY, Hold, broken, holding
from tests.autorl_bench.small_bench import N, Served, SmallBench, autorl_bench, children, wait_until, write_scenario

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server and a grader that tests may kill."""
    small = SmallBench.make(tmp_path_factory.mktemp("mortal"))
    with served(options_of(small.home.root, []), 0) as addresses:
        yield Served(small, addresses.agents, addresses.pages)


def start_with(small: SmallBench, scenario: object) -> tuple[Run, str]:
    run, token = small.bench.create(scenario, "tester", {}, isolation="none")
    small.bench.agent_started(run.id, 1, "none")
    return small.run(run.id), token


def kill(small: SmallBench, verb: str) -> None:
    """kill -9 of the benchmark's server or grader."""
    [process] = wait_until(lambda: children(os.getpid(), verb, str(small.home.root)), f"a {verb}")
    process.kill()
    psutil.wait_procs([process], timeout=60)


def submit(small: SmallBench, run: Run) -> None:
    submission, _ = small.bench.submit(run, small.model(run))
    small.bench.declare_final(run, submission.number, actor="agent")


def ended(small: SmallBench, run: Run) -> Run:
    wait_until(lambda: small.run(run.id).state.is_end, "the run's end")
    return small.run(run.id)


@pytest.mark.parametrize("item", [0, N["dev"], N["dev"] + 2], ids=["baseline", "between", "midway"])
def test_a_grader_killed_during_dev_costs_the_agent_nothing(mortal: Served, item: int) -> None:
    small, hold = mortal.small, holding(mortal.small, f"dev-{item}")
    run, token = start_with(small, hold.scenario)
    hold.after(item)
    asked = mortal.client(token).ask(small.model(run))
    wait_until(lambda: hold.reached, "the evaluation under way")
    kill(small, "grader")
    hold.release()
    answer = mortal.client(token).evaluate("output/model")
    assert (answer.id, answer.state, answer.items) == (asked.id, QueryState.ANSWERED, N["dev"])
    assert len(small.evaluations(run.id, Role.DEV)) == 1
    [job] = small.jobs(run.id)
    assert (job.state, job.attempts) == (JobState.DONE, 2)


@pytest.mark.parametrize(
    "item", [1, N["test"] + 1, 2 * N["test"] + 1], ids=["at the baseline", "at the submission", "at the twin"]
)
def test_a_grader_killed_during_the_final_evaluation_makes_it_again(mortal: Served, item: int) -> None:
    small, hold = mortal.small, holding(mortal.small, f"final-{item}")
    run, _ = start_with(small, hold.scenario)
    hold.after(item)
    submit(small, run)
    wait_until(lambda: hold.reached, "the evaluation under way")
    kill(small, "grader")
    small.check_honest()
    assert small.run(run.id).state == RunState.EVALUATING
    hold.release()
    assert ended(small, run).state == RunState.SCORED
    small.check_honest()
    wait_until(small.home.feedback(run.id).exists, "feedback.json")


def test_a_server_killed_during_the_final_evaluation_leaves_it_to_the_grader(mortal: Served) -> None:
    small, hold = mortal.small, holding(mortal.small, "server")
    run, _ = start_with(small, hold.scenario)
    hold.after(2)
    submit(small, run)
    wait_until(lambda: hold.reached, "the evaluation under way")
    kill(small, "serve")
    hold.release()
    assert ended(small, run).state == RunState.SCORED
    small.check_honest()
    [job] = small.jobs(run.id)
    assert job.attempts == 1


def test_an_evaluation_that_kills_every_grader_ends_as_infrastructure(tmp_path: Path) -> None:
    small = SmallBench.make(tmp_path)
    scenario = broken(small, "deadly", DEADLY)
    run, token = start_with(small, scenario)
    with served(options_of(small.home.root, []), 0) as addresses:
        client = Served(small, addresses.agents, addresses.pages).client(token)
        asked = client.ask(small.model(run))
        wait_until(lambda: client.answer(asked.id).state == QueryState.INFRASTRUCTURE, "the end of the question")
        assert client.status().dev_queries_left == 4
        other, _ = small.start()
        submit(small, other)
        assert ended(small, other).state == RunState.SCORED, "another run is none the worse for it"
    small.check_honest()


def test_a_grader_that_cannot_be_started_any_more_ends_what_waits_for_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small = SmallBench.make(tmp_path)
    write_scenario(tmp_path / "more", name="more")
    hold = holding(small, "started")
    run, _ = start_with(small, hold.scenario)
    hold.after(1)
    submit(small, run)
    with served(options_of(small.home.root, [tmp_path / "more"]), 0):
        wait_until(lambda: hold.reached, "the evaluation under way")
        shutil.rmtree(tmp_path / "more")
        kill(small, "grader")
        over = ended(small, run)
    assert (over.state, over.reasons[0].code) == (RunState.INFRASTRUCTURE, "no_grader")
    assert "cannot be kept running" in over.reasons[0].message
    assert "scenario folder" in capfd.readouterr().err
    small.check_honest()


def test_a_full_disk_is_waited_out_and_nothing_is_lost(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: whatever is written to the store fails."""
    small = SmallBench.make(tmp_path)
    started = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(autorl_bench("grader", "--home", small.home.root, "--until-eof"), **started) as grader:
        assert grader.stdin is not None and grader.stderr is not None
        first, _ = small.start()
        small.bench.ask(first, small.model(first))
        wait_until(lambda: small.evaluations(first.id, Role.DEV), "a grader at work")
        psutil.Process(grader.pid).rlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        run, _ = small.start()
        submit(small, run)
        said = grader.stderr.readline()
        assert small.run(run.id).state == RunState.SUBMITTED
        psutil.Process(grader.pid).rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert ended(small, run).state == RunState.SCORED
        wait_until(small.home.feedback(run.id).exists, "feedback.json")
        assert grader.poll() is None, "a full disk kills nobody"
        grader.stdin.close()
        said += grader.stderr.read()
    assert str(small.home.store) in said and said.endswith("it is tried again\n")
    assert "Traceback" not in said and len(said.splitlines()) == 1
    assert [job.attempts for job in small.jobs(run.id)] == [1]
    small.check_honest()


def test_graders_leave_nothing_in_the_log_folder_but_whole_logs(mortal: Served) -> None:
    small = mortal.small
    hold: Hold = holding(small, "logs")
    run, _ = start_with(small, hold.scenario)
    submit(small, run)
    assert ended(small, run).state == RunState.SCORED
    logs = list(small.home.evaluations(run.id).iterdir())
    assert len(logs) == 3 and all(log.suffix == ".eval" for log in logs)
