"""What ``autorl-bench run`` does: agents times seeds on one scenario, one after another, and the board at the end."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console

from astune.errors import UserError
from autorl_bench.agents import Agent, AgentConfig, AgentRegistry
from autorl_bench.bench import Bench
from autorl_bench.durations import LONGEST
from autorl_bench.jobs import LocalJobRunner, make_runner
from autorl_bench.operate.agent_job import LEAST_SECONDS, AgentJob, operator_environment
from autorl_bench.operate.plan import Plan
from autorl_bench.operate.progress import shown
from autorl_bench.operate.serving import options_of, served
from autorl_bench.operate.task_text import task_text
from autorl_bench.report import print_board
from autorl_bench.scenarios import Scenario, make_checker, prepare
from autorl_bench.store import RunState, Track
from autorl_bench.store.records import Run
from autorl_bench.types import Reason

_LEFT = (RunState.CREATED, RunState.RUNNING)
_BY_HAND = {"by_hand": True}


def run_command(bench: Bench, options: argparse.Namespace) -> int:
    """Runs what the options ask for; 1 where a run ended for a reason of the benchmark's own."""
    agents = AgentRegistry(options.agents)
    if options.resume is not None:
        return _resume(bench, agents, options)
    plan = Plan.of(options)
    chosen = [agents.get(name).with_arguments(plan.overrides(name, options.set)) for name in plan.agents]
    scenario = _with_budget(bench.scenarios.get(plan.scenario), plan.budget)
    make_checker(scenario)  # one that cannot be made is bad input now, and a failure of ours after the agent's work
    prepare(scenario, bench.home.roots)
    _mention_left_behind(bench)
    draw = secrets.token_hex(8)  # the agents of one command are compared on the same hidden items
    turns = [(seed, agent) for seed in range(plan.first_seed, plan.first_seed + plan.seeds) for agent in chosen]
    ended: list[Run] = []
    with _job(bench, options, plan.runner) as job:
        for number, (seed, agent) in enumerate(turns, start=1):
            run, token = bench.create(
                scenario,
                agent.id,
                agent.config.model_dump(mode="json"),
                track=Track(plan.track),
                seed=seed,
                isolation=job.runner.probe().level,
                draw=draw,
            )
            job.say(f"[{number}/{len(turns)}] {agent.id}, seed {seed}: {run.id}")
            ended.append(_do(job, run, token, agent))
    print_board(bench.store, scenario.id, Console())
    return int(any(run.state == RunState.INFRASTRUCTURE for run in ended))


def _resume(bench: Bench, agents: AgentRegistry, options: argparse.Namespace) -> int:
    """Goes on with a run whose operator is gone: what it used stays used."""
    with bench.store.read() as tx:
        run = tx.runs.get(options.resume)
        config = tx.runs.agent(run.agent_digest).config
    if run.state.is_end:
        raise UserError(f"run {run.id} has ended ({run.state}); there is nothing to resume")
    with _job(bench, options, options.runner or "local") as job:
        job.recover(run.id)
        if run.state in _LEFT:
            agent = replace(agents.get(run.agent), config=AgentConfig.model_validate(dict(config)))
            with bench.store.write() as tx:
                token = tx.runs.renew_token(run.id)
            ended = _do(job, run, token, agent)
        else:
            ended = asyncio.run(job.wait_for_end(run))
            job.say(outcome(bench, ended))
    return int(ended.state == RunState.INFRASTRUCTURE)


def _do(job: AgentJob, run: Run, token: str, agent: Agent) -> Run:
    """One run. Ctrl-C ends the agent's processes and says how to go on."""
    try:
        with job.alone(run.id), shown(job.bench, run, Console()):
            ended = asyncio.run(_cancelled_by_sigterm(job, run, token, agent))
    except KeyboardInterrupt:
        job.say(f"run {run.id} can go on: autorl-bench run --resume {run.id}   (or: autorl-bench end {run.id})")
        raise
    job.say(f"    {outcome(job.bench, ended)}")
    return ended


async def _cancelled_by_sigterm(job: AgentJob, run: Run, token: str, agent: Agent) -> Run:
    """SIGTERM is answered as Ctrl-C is: nothing of the agent's is left running."""
    task = asyncio.ensure_future(job.run(run, token, agent))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@contextmanager
def _job(bench: Bench, options: argparse.Namespace, where: str) -> Iterator[AgentJob]:
    """A served benchmark, and how agents are run on it: locally, in containers, on a cluster."""
    console = Console(soft_wrap=True, highlight=False)
    runner = make_runner(where)
    probe = runner.probe()
    with served(options_of(bench.home.root, options.scenarios), options.port) as server:
        console.print(f"pages {server.pages}   agents run at level {probe.level} ({probe.reason})", markup=False)

        def say(text: str) -> None:
            console.print(text, markup=False)

        yield AgentJob(bench, server.agents, runner, operator_environment(), say)


def outcome(bench: Bench, run: Run) -> str:
    """One line on how a run ended."""
    with bench.store.read() as tx:
        score, baseline = tx.results.score(run.id), tx.results.baseline(run.id)
        flags = [record.flag.code for record in tx.ledger.flags(run.id)]
    if score is None or baseline is None:
        why = "; ".join(f"{reason.code}: {reason.message}" for reason in run.reasons)
        return f"{run.state}, no score: {why}"
    low, high = score.evaluation.interval
    noted = f"   noted: {', '.join(flags)}" if flags else ""
    return (
        f"score {score.evaluation.accuracy:.1f} % [{low:.1f}, {high:.1f}], base {baseline.evaluation.accuracy:.1f} %"
        f"   {bench.home.feedback(run.id)}{noted}"
    )


def _with_budget(scenario: Scenario, seconds: float | None) -> Scenario:
    """The scenario with another wall time; its processor time changes in proportion.

    Raises:
        UserError: too little time to start an agent in, or more than a year.
    """
    budget = scenario.budget
    wall = budget.wall_seconds if seconds is None else seconds
    if not LEAST_SECONDS <= wall <= LONGEST:
        key = f"budget.wall_seconds of scenario {scenario.id}" if seconds is None else "--budget"
        raise UserError(f"{key} is {wall:g} s; a run needs at least {LEAST_SECONDS:g} s, and has at most {LONGEST:g} s")
    if seconds is None:
        return scenario
    share = seconds / budget.wall_seconds
    update = {
        "wall_seconds": seconds,
        "cpu_seconds": budget.cpu_seconds * share,
        "gpu_seconds": budget.gpu_seconds * share,
    }
    return scenario.model_copy(update={"budget": budget.model_copy(update=update)})


def _mention_left_behind(bench: Bench) -> None:
    with bench.store.read() as tx:
        left = [run.id for run in tx.runs.all(states=_LEFT)]
    if left:
        shown = ", ".join(left[:3])
        print(f"{len(left)} runs have not ended ({shown}): resume one with --resume RUN, or end it with `end RUN`")


# --- agents that somebody starts by hand ----------------------------------------------------------------------------


def start_by_hand(bench: Bench, options: argparse.Namespace) -> int:
    """Makes a run for an agent that nobody confines, and prints its variables for a shell."""
    scenario = _with_budget(bench.scenarios.get(options.scenario), options.budget)
    make_checker(scenario)
    prepare(scenario, bench.home.roots)
    run, token = bench.create(scenario, options.name, _BY_HAND, seed=options.seed, isolation="none")
    workspace = bench.home.workspace(run.id)
    (workspace / "README.md").write_text(task_text(run, scenario), encoding="utf-8")
    bench.agent_started(run.id, 1, "none")
    variables = {
        "AUTORL_RUN": run.id,
        "AUTORL_SCENARIO": run.scenario,
        "AUTORL_SERVER": options.server,
        "AUTORL_TOKEN": token,
        "AUTORL_WORKSPACE": str(workspace),
        "AUTORL_BASE_MODEL": str(bench.base_model(scenario)),
        "AUTORL_TRAIN_DATA": str(bench.home.root / scenario.train_data_path),
    }
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f"# then: cd {workspace}; when done: autorl-bench finish {run.id}", file=sys.stderr)
    return 0


def finish_by_hand(bench: Bench, run_id: str) -> int:
    """Submits a run's ``output/model`` and waits for the score, which the server's grader gives."""
    with bench.store.read() as tx:
        run = tx.runs.get(run_id)
        by_hand = tx.runs.agent(run.agent_digest).config == _BY_HAND
    if not by_hand:
        raise UserError(f"run {run_id} was not begun with `start`; go on with it: autorl-bench run --resume {run_id}")
    bench.stop_clock(run_id)
    run = bench.finish(run_id)
    if not run.state.is_end:
        print("waiting for the grader of `autorl-bench serve`", file=sys.stderr)
    job = AgentJob(bench, "", LocalJobRunner(), {})
    ended = asyncio.run(job.wait_for_end(run))
    print(outcome(bench, ended))
    return int(ended.state != RunState.SCORED)


def end_left_behind(bench: Bench, run_id: str, runner: str = "local") -> int:
    """Ends a run as interrupted, with whatever of its agent still runs where ``runner`` had started it.

    Raises:
        UserError: there is no such runner.
        SandboxError: it cannot be asked now.
    """
    AgentJob(bench, "", make_runner(runner), {}).recover(run_id)
    run = bench.end(run_id, RunState.INTERRUPTED, Reason("ended_by_operator", "the operator ended it"))
    print(f"{run.id}: {run.state}")
    return 0
