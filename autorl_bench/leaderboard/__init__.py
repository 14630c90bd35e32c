"""The leaderboard: pure functions from results of runs to estimates, ranks, curves and tables."""

from autorl_bench.leaderboard.board import Row, board, count_runs, run_curve
from autorl_bench.leaderboard.compare import difference, improvement, normalised
from autorl_bench.leaderboard.curves import Curve, curve, mean_curve
from autorl_bench.leaderboard.ranks import ranks
from autorl_bench.leaderboard.types import Cost, Estimate, Evaluated, RunResult

__all__ = [
    "Cost",
    "Curve",
    "Estimate",
    "Evaluated",
    "Row",
    "RunResult",
    "board",
    "count_runs",
    "curve",
    "difference",
    "improvement",
    "mean_curve",
    "normalised",
    "ranks",
    "run_curve",
]
