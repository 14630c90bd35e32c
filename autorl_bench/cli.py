"""The ``autorl-bench`` command: reads its arguments and hands over. Imports nothing heavy until it has to."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from astune.command import exit_status, prepare_process
from autorl_bench.durations import seconds_of

if TYPE_CHECKING:
    from autorl_bench.bench import Bench

_EPILOG = """\
examples:
  autorl-bench run --agent rdagent --scenario nano_gsm --budget 10m --seeds 3
  autorl-bench run --conf configs/bench.yaml
  autorl-bench run --agent do_nothing --agent my_agent --agents my_agents --scenario nano_gsm
  autorl-bench serve                      # the pages at http://127.0.0.1:8321
  autorl-bench report --scenario nano_gsm
"""
PORT = 8321
#: The store's URL may hold a password: other processes are told by environment, not on their command line.
STORE_VARIABLE = "AUTORL_BENCH_STORE"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, 1 (failed), 2 (bad input), 130 (stopped by Ctrl-C)."""
    prepare_process()
    options = _parser().parse_args(argv)
    return exit_status(lambda: options.do(options), traceback=options.traceback)


# --- arguments --------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="autorl-bench",
        description="Measures how well agents post-train a model, by themselves, within a budget.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (text, add, do) in _VERBS.items():
        verb = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        _add_common(verb)
        add(verb)
        verb.set_defaults(do=do)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, default=Path(), metavar="DIR", help="the benchmark's folder (default: .)")
    parser.add_argument(
        "--store", metavar="WHERE", help=f"file or postgresql:// URL (default: ${STORE_VARIABLE}, or vault/store.db)"
    )
    parser.add_argument("--scenarios", type=Path, action="append", default=[], metavar="DIR", help="more scenarios")
    parser.add_argument("--agents", type=Path, action="append", default=[], metavar="DIR", help="more agents")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error came from")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--agent", action="append", default=[], metavar="NAME", help="an agent; may be repeated")
    parser.add_argument("--conf", type=Path, metavar="FILE", help="a campaign's file; other options override it")
    parser.add_argument("--scenario", metavar="ID", help="default: nano_gsm")
    parser.add_argument("--budget", type=_duration, metavar="TIME", help="wall time of a run: 90, 90s, 10m, 12h")
    parser.add_argument("--seeds", type=_positive, metavar="N", help="runs an agent, seeds 0 to N-1 (default: 1)")
    parser.add_argument("--first-seed", type=_natural, metavar="N", help="begin with this seed")
    parser.add_argument("--track", choices=("weights", "replay"), help="what is evaluated (default: weights)")
    parser.add_argument("--runner", metavar="NAME", help="where agents run: local (default), docker, ray")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an argument of the agent")
    parser.add_argument("--resume", metavar="RUN", help="go on with a run that was left behind")
    parser.add_argument("--port", type=_port, default=0, help="port of the server and its pages (default: a free one)")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=_port, default=PORT, help=f"default: {PORT}")
    parser.add_argument("--listen-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--agents-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--until-eof", action="store_true", help=argparse.SUPPRESS)


def _add_grader(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenario", metavar="ID", help="default: all that have runs")
    parser.add_argument("--flagged", action="store_true", help="use the scores of flagged runs, too")
    parser.add_argument("--json", action="store_true", help="print what GET /leaderboard/{scenario} answers")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write the whole board as a static folder")


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", nargs="?", help="show this one")


def _add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenario", default="nano_gsm", metavar="ID")
    parser.add_argument("--name", default="by_hand", metavar="NAME", help="what the board calls the agent")
    parser.add_argument("--budget", type=_duration, metavar="TIME")
    parser.add_argument("--seed", type=_natural, default=0)
    parser.add_argument("--server", default=f"http://127.0.0.1:{PORT}", metavar="URL", help="where `serve` listens")


def _add_run_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run's id")


def _add_end(parser: argparse.ArgumentParser) -> None:
    _add_run_id(parser)
    parser.add_argument("--runner", metavar="NAME", help="where its agent was started: local (default), docker, ray")


def _add_redteam(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cheat", nargs="*", help="names of cheats (default: all)")
    parser.add_argument("--list", action="store_true", help="name the cheats and do nothing")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the kill matrix as Markdown, too")


def _duration(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} should be a number, at least 1")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} should be a number from 0 to {2**31 - 1}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 1 to {2**16 - 1}, or 0 for any free one")
    return int(text)


# --- commands ---------------------------------------------------------------------------------------------------


def open_bench(options: argparse.Namespace) -> Bench:
    """The benchmark that the common options name."""
    from autorl_bench.bench import Bench
    from autorl_bench.home import Home
    from autorl_bench.scenarios import ScenarioRegistry
    from autorl_bench.store import open_store

    home = Home(options.home.absolute())
    scenarios = ScenarioRegistry(options.scenarios)
    home.make()
    where = options.store or os.environ.get(STORE_VARIABLE) or home.store
    if options.store:
        os.environ[STORE_VARIABLE] = options.store  # for the processes that this one starts
    return Bench(home, open_store(where), scenarios)


def _run(options: argparse.Namespace) -> int:
    from autorl_bench.operate.campaign import run_command

    return run_command(open_bench(options), options)


def _serve(options: argparse.Namespace) -> int:
    import socket

    from autorl_bench.operate.serving import listen, options_of, serve

    bench = open_bench(options)
    if options.listen_fd is not None:
        listener = socket.socket(fileno=options.listen_fd)
    else:
        listener = listen(options.host, options.port)
        print(f"AutoRL-Bench at http://{options.host}:{listener.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
    agents = None if options.agents_fd is None else socket.socket(fileno=options.agents_fd)
    grader_options = options_of(bench.home.root, options.scenarios)
    serve(bench, grader_options, listener, agents=agents, until_eof=options.until_eof)
    return 0


def _grader(options: argparse.Namespace) -> int:
    from autorl_bench.grader.worker import Grader
    from autorl_bench.operate.serving import stop_at_eof

    grader = Grader(open_bench(options))
    if options.until_eof:
        stop_at_eof(grader.stop)
    grader.serve()
    return 0


def _report(options: argparse.Namespace) -> int:
    import json

    from rich.console import Console

    from autorl_bench.report import print_board
    from autorl_bench.web.boards import leaderboard_json
    from autorl_bench.web.export import export

    bench = open_bench(options)
    if options.scenario is not None:
        bench.scenarios.get(options.scenario)
    if options.export is not None:
        print(export(bench.store, bench.scenarios, bench.home.root, options.export))
        return 0
    with bench.store.read() as tx:
        known = sorted({run.scenario for run in tx.runs.all()})
    for scenario in [options.scenario] if options.scenario else known:
        if options.json:
            print(json.dumps(leaderboard_json(bench.store, scenario), indent=2))
        else:
            print_board(bench.store, scenario, Console(), flagged=options.flagged)
    if not known:
        print("no runs yet: autorl-bench run --agent do_nothing --scenario nano_gsm", file=sys.stderr)
    return 0


def _scenarios(options: argparse.Namespace) -> int:
    import json

    from autorl_bench.home import Home
    from autorl_bench.scenarios import ScenarioRegistry, details, missing

    registry, roots = ScenarioRegistry(options.scenarios), Home(options.home.absolute()).roots
    if options.id is not None:
        scenario = registry.get(options.id)
        print(json.dumps(details(scenario), indent=2))
        for lacking in missing(scenario, roots):
            print(f"missing: {lacking.path}\n  {lacking.how}")
        return 0
    for name in registry.ids:
        scenario = registry.get(name)
        note = f"  (files are missing: autorl-bench scenarios {name})" if missing(scenario, roots) else ""
        print(f"{name:16} {scenario.title}; {scenario.metric}, base {scenario.baseline_score:.1f} %{note}")
    return 0


def _agents(options: argparse.Namespace) -> int:
    from autorl_bench.agents import AgentRegistry

    registry = AgentRegistry(options.agents)
    if options.id is not None:
        agent = registry.get(options.id)
        print(f"{agent.id}: {agent.config.description}\n  folder     {agent.folder}")
        print(f"  command    {' '.join(agent.config.command)}\n  arguments  {agent.config.arguments}")
        return 0
    for name in registry.ids:
        print(f"{name:18} {registry.get(name).config.description}")
    return 0


def _start(options: argparse.Namespace) -> int:
    from autorl_bench.operate.campaign import start_by_hand

    return start_by_hand(open_bench(options), options)


def _finish(options: argparse.Namespace) -> int:
    from autorl_bench.operate.campaign import finish_by_hand

    return finish_by_hand(open_bench(options), options.run)


def _end(options: argparse.Namespace) -> int:
    from autorl_bench.operate.campaign import end_left_behind

    return end_left_behind(open_bench(options), options.run, options.runner or "local")


def _redteam(options: argparse.Namespace) -> int:
    from autorl_bench.redteam.command import redteam_command

    return redteam_command(options.cheat, list_only=options.list, markdown=options.markdown)


_Add = Callable[[argparse.ArgumentParser], None]
_Do = Callable[[argparse.Namespace], int]
_VERBS: dict[str, tuple[str, _Add, _Do]] = {
    "run": ("Run agents on a scenario, evaluate what they submit, print the board.", _add_run, _run),
    "serve": ("Serve the interface and the pages, with a grader.", _add_serve, _serve),
    "report": ("Print the boards, or write them as JSON or as a static folder.", _add_report, _report),
    "scenarios": ("List the scenarios, or show one and what it misses.", _add_id, _scenarios),
    "agents": ("List the agents, or show one.", _add_id, _agents),
    "start": ("Make a run for an agent that you start yourself; prints its variables.", _add_start, _start),
    "finish": (
        "Submit output/model of a run that was begun with `start`, and wait for its score.",
        _add_run_id,
        _finish,
    ),
    "end": ("End a run that was left behind, as interrupted.", _add_end, _end),
    "redteam": ("Run every scripted cheat against the benchmark and print the kill matrix.", _add_redteam, _redteam),
    "grader": ("Evaluate what is queued (`serve` and `run` start one by themselves).", _add_grader, _grader),
}
