"""`autorl-bench run` with everything real: server, grader, sandboxed agent; and kill -9 of each of them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from autorl_bench.operate.agent_job import AgentJob
from autorl_bench.store import QueryState, Role, RunState
from tests.autorl_bench.grader.scenes import holding
from tests.autorl_bench.operate.operator import await_end, command, noted, operator
from tests.autorl_bench.small_bench import SmallBench, children, wait_until

pytestmark = pytest.mark.slow

TINY = ("--agent", "worker", "--scenario", "tiny")
WAIT = ("--set", "wait=true", "--budget", "20m")
OURS = {
    "AUTORL_RUN",
    "AUTORL_SCENARIO",
    "AUTORL_SERVER",
    "AUTORL_TOKEN",
    "AUTORL_WORKSPACE",
    "AUTORL_BASE_MODEL",
    "AUTORL_TRAIN_DATA",
    "AUTORL_TRACK",
    "AUTORL_SEED",
    "AUTORL_BUDGET",
    "AUTORL_SECONDS_LEFT",
    "AUTORL_ARGUMENTS",
}


def seconds_left(workspace: Path, attempt: int) -> float:
    return float(noted(workspace, f"attempt-{attempt}")["AUTORL_SECONDS_LEFT"])


def test_a_run_from_the_start_to_the_board(small_bench: SmallBench) -> None:
    with operator(small_bench, *TINY, "--first-seed", 3, "--budget", "60s", SECRET_OF_THE_OPERATOR="1") as at_work:
        said = at_work.finish()
    with small_bench.bench.store.read() as tx:
        [run] = tx.runs.all()
    workspace, given = small_bench.home.workspace(run.id), None
    given = noted(workspace, "attempt-1")
    assert {name for name in given if name.startswith("AUTORL_")} == OURS
    assert set(given) - OURS <= {"PATH", "HOME", "TMPDIR", "LANG", "LC_CTYPE", "ASTUNE_RUN", "PWD"}
    assert (given["AUTORL_RUN"], given["AUTORL_SEED"], given["AUTORL_TRACK"]) == (run.id, "3", "weights")
    assert json.loads(given["AUTORL_BUDGET"])["wall_seconds"] == 60
    assert (workspace / "README.md").read_text().startswith("# Word problems")
    assert noted(workspace, "answer")["state"] == QueryState.ANSWERED
    assert run.state == RunState.SCORED
    assert str(small_bench.home.feedback(run.id)) in said and "worker" in said.split(run.id)[-1]
    assert given["AUTORL_TOKEN"] not in said
    used = small_bench.bench.used(run.id)
    assert 0 < used.wall_seconds < 60 and used.cpu_seconds > 0 and used.peak_memory > 0
    small_bench.check_honest()


def test_a_server_killed_during_an_evaluation_costs_the_agent_nothing(small_bench: SmallBench) -> None:
    hold = holding(small_bench, "held")
    hold.after(2)
    with operator(small_bench, "--agent", "worker", "--scenario", "held", "--scenarios", hold.folder) as at_work:
        run = at_work.run
        wait_until(lambda: hold.reached, "the evaluation under way")
        [server] = children(at_work.process.pid, "serve")
        server.kill()
        hold.release()
        at_work.finish()
    assert noted(small_bench.home.workspace(run.id), "answer")["state"] == QueryState.ANSWERED
    assert len(small_bench.evaluations(run.id, Role.DEV)) == 1
    assert small_bench.run(run.id).state == RunState.SCORED
    assert len(list(small_bench.home.workspace(run.id).glob("attempt-*"))) == 1
    small_bench.check_honest()


def test_a_killed_agent_goes_on_with_the_rest_of_its_budget_and_not_for_ever(small_bench: SmallBench) -> None:
    with operator(small_bench, *TINY, *WAIT, "--set", "ask=false") as at_work:
        workspace, run = at_work.workspace(), at_work.run
        first = seconds_left(workspace, 1)
        at_work.agent().kill()
        second = seconds_left(workspace, 2)
        record = json.loads((small_bench.home.log(run.id) / "agent-2" / "record.json").read_text())
        os.kill(record["first"]["pid"], signal.SIGKILL)
        third = seconds_left(workspace, 3)
        at_work.agent().kill()
        said = at_work.finish()
    assert 1200 >= first > second > third > 0
    assert not (workspace / "attempt-4").exists()
    assert said.count("was killed and is started again") == 2
    assert small_bench.run(run.id).state == RunState.SCORED
    small_bench.check_honest()


def test_nothing_outlives_a_killed_operator_and_its_run_goes_on(small_bench: SmallBench) -> None:
    with operator(small_bench, *TINY, *WAIT) as at_work:
        run, workspace = at_work.run, at_work.workspace()
        noted(workspace, "answer")
        first = seconds_left(workspace, 1)
        for verb in ("end", "run"):
            status, said = command(small_bench, verb, *(["--resume"] if verb == "run" else []), run.id)
            assert status == 2 and "is being run by another autorl-bench" in said
        everybody = at_work.everybody()
        at_work.process.kill()
        at_work.process.wait()
    await_end(everybody)
    assert small_bench.run(run.id).state == RunState.RUNNING
    small_bench.check_honest()
    with operator(small_bench, "--resume", run.id) as again:
        assert seconds_left(workspace, 2) < first - 1
        (workspace / "go").touch()
        again.finish()
    assert small_bench.run(run.id).state == RunState.SCORED
    assert len(small_bench.evaluations(run.id, Role.DEV)) == 1, "the second attempt asked the same question"
    small_bench.check_honest()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stopped_operator_leaves_nothing_running_and_says_how_to_go_on(
    small_bench: SmallBench, number: signal.Signals
) -> None:
    with operator(small_bench, *TINY, *WAIT) as at_work:
        run = at_work.run
        noted(at_work.workspace(), "answer")
        everybody = at_work.everybody()
        os.killpg(at_work.process.pid, number)
        said = at_work.finish(130)
    await_end(everybody)
    assert f"--resume {run.id}" in said
    assert small_bench.run(run.id).state == RunState.RUNNING
    status, said = command(small_bench, "end", run.id)
    assert (status, said.strip()) == (0, f"{run.id}: interrupted")
    status, said = command(small_bench, "run", "--resume", run.id)
    assert status == 2 and "has ended (interrupted)" in said
    small_bench.check_honest()


def test_two_runs_at_once_do_not_see_each_other(small_bench: SmallBench) -> None:
    with operator(small_bench, *TINY, *WAIT) as one:
        mine = one.workspace()
        with operator(small_bench, *TINY, *WAIT, "--set", "nudge=0.002") as other:
            theirs, home = other.workspace(), small_bench.home
            noted(theirs, "answer")
            noted(mine, "answer")
            paths = [str(theirs), str(home.workspace("")), str(home.vault), str(home.log("")), "/proc"]
            paths += [str(theirs / "output" / "model" / "config.json"), str(home.store)]
            (mine / "look").write_text(json.dumps(paths))
            seen = noted(mine, "seen")
            (mine / "foreign").write_text(f"workspace/{other.run.id}/output/model")
            refused = noted(mine, "refused")
            (mine / "go").touch()
            (theirs / "go").touch()
            other.finish()
        one.finish()
    runs = {path.name for path in (mine, theirs)}
    assert seen.pop(str(home.workspace(""))) in ([mine.name], "FileNotFoundError", "PermissionError")
    processes = [name for name in seen.pop("/proc") if name.isdigit()]
    assert len(processes) <= 4, "its own, its first, and no other's"
    assert set(seen.values()) <= {"FileNotFoundError", "PermissionError"}, seen
    assert refused == "outside_workspace"
    tokens = {noted(path, "attempt-1")["AUTORL_TOKEN"] for path in (mine, theirs)}
    assert len(tokens) == 2
    assert {small_bench.run(run).state for run in runs} == {RunState.SCORED}
    small_bench.check_honest()


def test_a_whole_run_on_postgresql(tmp_path: Path) -> None:
    from tests.autorl_bench.store.postgres import create_database, postgres_server

    with postgres_server() as server:
        url = create_database(server, "bench")
        small = SmallBench.make(tmp_path, url)
        with operator(small, *TINY, AUTORL_BENCH_STORE=url) as at_work:
            at_work.finish()
        with small.bench.store.read() as tx:
            [run] = tx.runs.all()
        assert run.state == RunState.SCORED
        assert not small.home.store.exists()
        assert small.home.feedback(run.id).exists()
        small.check_honest()
        small.bench.store.close()


def test_only_one_operator_runs_a_run(small_bench: SmallBench) -> None:
    from astune.errors import UserError
    from autorl_bench.jobs import LocalJobRunner

    run, _ = small_bench.start()
    job = AgentJob(small_bench.bench, "", LocalJobRunner(), {})
    with job.alone(run.id), pytest.raises(UserError, match=run.id), job.alone(run.id):
        pass
    with job.alone(run.id):
        pass
