"""The table: what counts, what is apart, and who gets a rank."""

import dataclasses

import pytest

from astune.tools.types import SandboxLevel
from autorl_bench.leaderboard import Cost, board, count_runs
from autorl_bench.types import Outcome
from tests.autorl_bench.leaderboard.results import run


def table(*runs, **options):
    return {row.agent: row for row in board(runs, budget=100, resamples=300, **options)}


def test_the_best_comes_first_and_the_unranked_last():
    runs = [run(name, seed, first) for name, first in [("zero", 30), ("top", 80), ("mid", 50)] for seed in range(2)]
    runs.append(run("absent", 0, None, outcome=Outcome.INVALID))
    assert [row.agent for row in board(runs, budget=100)] == ["top", "mid", "zero", "absent"]


def test_a_row_says_score_baseline_and_improvement():
    row = table(run("a", 0, 50), run("a", 1, 60))["a"]
    assert (row.score, row.baseline, row.improvement.mean) == pytest.approx((55, 30, 25))


def test_infrastructure_failures_are_counted_and_lower_nothing():
    row = table(run("a", 0, 50), run("a", 1, 50), run("a", 2, None, outcome=Outcome.INFRASTRUCTURE))["a"]
    assert (row.rank, row.scored, row.infrastructure, row.improvement.mean) == (1, 2, 1, pytest.approx(20))


def test_an_invalid_run_is_no_zero_and_costs_the_rank():
    row = table(run("a", 0, 50), run("a", 1, 50), run("a", 2, None, outcome=Outcome.INVALID))["a"]
    assert (row.rank, row.invalid, row.improvement.mean) == (None, 1, pytest.approx(20))
    assert row.why_unranked == "1 of 3 runs invalid"


def test_too_few_seeds_have_no_rank():
    row = table(run("a", 0, 50))["a"]
    assert (row.rank, row.why_unranked) == (None, "1 of at least 2 seeds scored")


def test_an_agent_without_a_score_has_a_row_without_numbers():
    row = table(run("a", 0, None, outcome=Outcome.INVALID))["a"]
    assert (row.score, row.improvement, row.normalised, row.curve) == (None, None, None, None)


def test_the_first_run_of_a_seed_counts_however_well_the_second_went():
    assert count_runs([run("a", 0, 90, attempt=1), run("a", 0, 40, attempt=0)]) == (run("a", 0, 40, attempt=0),)


def test_an_invalid_run_is_not_repaired_by_another():
    invalid = run("a", 0, None, outcome=Outcome.INVALID)
    assert count_runs([invalid, run("a", 0, 90, attempt=1)]) == (invalid,)


def test_an_infrastructure_failure_is_repaired_by_the_next_run():
    failed = run("a", 0, None, outcome=Outcome.INFRASTRUCTURE)
    assert count_runs([failed, run("a", 0, 90, attempt=1)]) == (run("a", 0, 90, attempt=1),)


def test_flagged_runs_are_left_out_or_in_and_counted_in_both():
    runs = [run("honest", s, 50) for s in range(2)] + [run("cheat", s, 99, flags=("contaminated",)) for s in range(2)]
    without, with_them = table(*runs), table(*runs, include_flagged=True)
    assert (without["honest"].rank, without["cheat"].rank) == (1, None)
    assert without["cheat"].improvement is None
    assert without["cheat"].why_unranked == "2 of 2 runs flagged"
    assert (with_them["cheat"].rank, with_them["honest"].rank) == (1, 2)
    assert without["cheat"].flagged == with_them["cheat"].flagged == 2


def test_one_flagged_seed_costs_the_rank_where_flagged_runs_are_left_out():
    row = table(run("a", 0, 50), run("a", 1, 50), run("a", 2, 99, flags=("base copied",)))["a"]
    assert (row.rank, row.improvement.mean) == (None, pytest.approx(20))


def test_the_normalised_score_needs_the_reference():
    runs = [run("a", seed, 50) for seed in range(2)]
    assert table(*runs)["a"].normalised is None
    reference = [run("reference_recipe", seed, 70) for seed in range(2)]
    assert table(*runs, *reference)["a"].normalised.mean == pytest.approx(0.5)


def test_cost_is_the_mean_and_memory_the_peak():
    row = table(run("a", 0, cost=Cost(10, 20, 300, 4)), run("a", 1, cost=Cost(30, 40, 100, 6)))["a"]
    assert row.cost == Cost(20, 30, 300, 5)


def test_a_row_is_as_isolated_as_its_least_isolated_run():
    levels = {"both": ("kernel", "process"), "good": ("kernel", "kernel"), "unknown": ("kernel", None)}
    runs = [
        run(name, seed, isolation=level and SandboxLevel(level))
        for name, pair in levels.items()
        for seed, level in enumerate(pair)
    ]
    rows = table(*runs)
    assert [rows[name].isolation for name in levels] == [SandboxLevel.PROCESS, SandboxLevel.KERNEL, None]


def test_the_curve_of_a_row_is_the_mean_of_its_runs():
    row = table(run("a", 0, progress=((20, 60),)), run("a", 1, progress=()))["a"]
    assert (row.curve.seconds, row.curve.best) == ((0, 20), (30, 45))


def test_no_runs_are_an_empty_board():
    assert board([], budget=100) == ()


def test_a_board_is_of_one_scenario():
    other = dataclasses.replace(run("a", 0), scenario="other")
    with pytest.raises(ValueError, match="nano, other"):
        board([run("a", 0), other], budget=100)


def test_a_scored_run_needs_its_evaluation():
    with pytest.raises(ValueError, match="exactly a scored run"):
        run("a", 0, None, outcome=Outcome.SCORED)
