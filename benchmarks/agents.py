"""Agents of AutoRL-Bench against each other: equal budgets, several seeds, intervals, score against budget.

    python benchmarks/agents.py --seeds 10              # nano_gsm, 60 s a run; 40 minutes of a quiet machine
    python benchmarks/agents.py --budget 60 --seeds 1 --out /tmp/try.json

Runs ``autorl-bench run`` in a folder of its own, reads the board, and adds the difference between every two agents:
paired item by item over the common seeds (hierarchical bootstrap over seeds and items, 95 %). The budget is wall time,
so that a machine that is busy with something else makes every agent worse; the load is in the JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from astune.report.environment import environment
from autorl_bench.leaderboard import RunResult, count_runs, difference
from autorl_bench.store import open_store
from autorl_bench.web.boards import Board, leaderboard_json, read_boards
from autorl_bench.web.results import Results, run_results

HERE = Path(__file__).parent
AGENTS = ("do_nothing", "random_search", "reference_recipe", "rdagent")
LIMIT_SECONDS = 6 * 3600


def run(agents: Sequence[str], scenario: str, budget: float, seeds: int, home: Path) -> None:
    """One command, as a user types it; what it prints is shown."""
    named = [part for agent in agents for part in ("--agent", agent)]
    command = [sys.executable, "-m", "autorl_bench", "run", *named, "--scenario", scenario]
    command += ["--budget", f"{budget:g}s", "--seeds", str(seeds), "--home", str(home)]
    subprocess.run(command, check=True, timeout=LIMIT_SECONDS)


def differences(runs: Sequence[RunResult]) -> list[dict[str, Any]]:
    """Each agent's improvement less each other's, in percentage points."""
    counted = [one for one in count_runs(runs) if one.evaluated is not None]
    by_agent = {name: {one.seed: one.evaluated for one in counted if one.agent == name} for name in AGENTS}
    found = []
    for left, right in combinations([name for name in reversed(AGENTS) if by_agent[name]], 2):
        estimate = difference(by_agent[left], by_agent[right])
        found.append({"more": left, "than": right, **asdict(estimate), "decided": estimate.decided})
    return found


def curves(board: Board) -> dict[str, list[dict[str, Any]]]:
    """Of each agent, a curve a seed: from which second on the best dev score so far was how high."""
    agents = [row.agent for row in board.complete]
    return {agent: [asdict(one) for one in board.curves(agent, True)] for agent in agents}


def main() -> None:
    """Runs everything and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", default=list(AGENTS))
    parser.add_argument("--scenario", default="nano_gsm")
    parser.add_argument("--budget", type=float, default=60.0, help="wall seconds of each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--home", type=Path, help="keep the runs here")
    parser.add_argument("--read", action="store_true", help="run nothing: write what the runs in --home came to")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "agents.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = arguments.home or Path(scratch)
        before = os.getloadavg()
        if not arguments.read:
            run(arguments.agents, arguments.scenario, arguments.budget, arguments.seeds, home)
        after = os.getloadavg()
        with open_store(home / "vault" / "store.db") as store:
            board = read_boards(Results(store), arguments.scenario)[0]
            document = {
                "environment": environment(),
                "load_average": {"before": before, "after": after},
                "command": f"autorl-bench run --scenario {arguments.scenario} --budget {arguments.budget:g}s",
                "seeds": arguments.seeds,
                "differences": differences(run_results(board.entries)),
                "curves": curves(board),
                "board": leaderboard_json(store, arguments.scenario)["boards"][0],
            }
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    for one in document["differences"]:
        print(f"{one['more']} - {one['than']}: {one['mean']:+.1f} [{one['low']:+.1f}, {one['high']:+.1f}] points")


if __name__ == "__main__":
    main()
