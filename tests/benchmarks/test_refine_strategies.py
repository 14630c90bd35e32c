"""The benchmark of strategies: what counts within a budget, and the numbers of the winner's curse."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from astune.refine.loop_state import Attempt, Reflection, Round, Score, Usage
from benchmarks.refine_strategies import Crowd, at_budget, curse


def two_rounds() -> list[Round[str, str]]:
    """Attempts of 10 tokens, scored for 5 each; a reflection of 5 between them. The second is better."""
    return [
        Round(1, [Attempt(1, 1, "a", Score(1.0, usage=Usage(5)), Usage(10))], Reflection("r", usage=Usage(5))),
        Round(2, [Attempt(2, 2, "b", Score(2.0, usage=Usage(5)), Usage(10))]),
    ]


@pytest.mark.parametrize(("budget", "best"), [(14, None), (15, "a"), (34, "a"), (35, "b")])
def test_only_attempts_that_were_made_and_scored_within_the_budget_count(budget, best):
    state, _ = at_budget(two_rounds(), budget)
    assert (state.best and state.best.candidate) == best


@pytest.mark.parametrize(("budget", "tokens"), [(14, 0), (19, 15), (20, 20), (99, 35)])
def test_what_is_used_stays_within_the_budget(budget, tokens):
    assert at_budget(two_rounds(), budget)[1].tokens == tokens


def test_the_curse_is_the_winners_score_less_its_fresh_one():
    crowds = [Crowd([0.0, 1.0], [0.5, 0.25], [True, False])]
    report = curse(crowds)
    assert (report["1"]["curse"], report["2"]["curse"]) == (-0.5, 0.75)
    assert (report["2"]["accuracy"], report["2"]["accuracy_chosen_by_fresh_scores"]) == (0.0, 1.0)


@pytest.mark.slow
def test_the_command_writes_result_and_figure(tmp_path, project_root):
    out, figure = tmp_path / "result.json", tmp_path / "figure.png"
    sizes = ["--problems", "4", "--seeds", "1", "--crowds", "2", "--budgets", "48", "96"]
    command = [sys.executable, "benchmarks/refine_strategies.py", *sizes, "--out", str(out), "--figure", str(figure)]
    subprocess.run(command, cwd=project_root, check=True, capture_output=True)
    strategies = json.loads(out.read_text())["strategies"]
    assert len(strategies) == 8
    assert all(by_budget["96"]["tokens"] <= 96 for by_budget in strategies.values())
    assert figure.stat().st_size > 10_000
