from __future__ import annotations

import json
from collections import Counter

import pytest

from astune.report.metrics import HABITS, Evaluation, evaluate, step_metrics
from astune.trace import Episode, Group, SplitReason, StopReason, ToolCall, Trajectory, Turn, Verdict


def episode(
    reward: float = 1.0, success: bool | None = True, habit: str | None = None, stop: StopReason = StopReason.EOS
) -> Episode:
    turn = Turn([1, 2, 3], [4, 5], [-0.1, -0.2], stop, cached_tokens=2)
    return Episode(
        task_id="t",
        sample_index=0,
        trajectories=[Trajectory([1, 2, 3, 4, 5], [0, 0, 0, 1, 1], [0.0, 0.0, 0.0, -0.1, -0.2], [turn])],
        verdict=Verdict(reward, success, {"correct": reward}),
        habits={habit: True} if habit else {},
    )


def failed(kind: str = "timeout") -> Episode:
    return Episode("t", 0, stop_reason=kind, error="took too long")


def metrics(*episodes: Episode) -> dict[str, float]:
    return step_metrics([Group("t", list(episodes))])


def test_reward_is_that_of_graded_episodes_only():
    row = metrics(episode(1.0), episode(0.0, False), episode(9.0, None), failed())
    assert (row["reward_mean"], row["reward_std"]) == (0.5, 0.5)


def test_success_counts_what_failed_or_was_ungradable_as_not_solved():
    assert metrics(episode(), episode(0.0, False), episode(0.0, None), failed())["success_rate"] == 0.25


def test_ungradable_episodes_are_counted_beside():
    assert metrics(episode(), episode(0.0, None))["ungradable_rate"] == 0.5


@pytest.mark.parametrize("habit", HABITS)
def test_habit_rate_is_the_share_of_episodes(habit: str):
    row = metrics(episode(habit=habit), episode(), episode(), episode())
    assert {name: row[f"habit/{name}"] for name in HABITS} == {name: 0.25 * (name == habit) for name in HABITS}


def test_failures_are_counted_by_kind():
    row = metrics(episode(), failed(), failed(), failed("context_overflow"))
    assert row["episodes"] == 4
    assert row["episodes_failed"] == 3
    assert row["episodes_failed/timeout"] == 2
    assert row["episodes_failed/context_overflow"] == 1


def test_tokens_and_turns_are_counted():
    row = metrics(episode(), episode())
    counted = {name: row[f"{name}_tokens"] for name in ("prompt", "completion", "cached")}
    assert counted == {"prompt": 6, "completion": 4, "cached": 4}
    assert row["turns_per_episode"] == 1


def test_truncated_share_counts_episodes_cut_by_length():
    assert metrics(episode(stop=StopReason.LENGTH), episode())["truncated_rate"] == 0.5


def test_tool_calls_are_counted_with_those_that_failed():
    calls = [ToolCall("execute_python_code", {}, "", code, "exit", 0.1) for code in (0, 1, 0)]
    row = metrics(Episode("t", 0, tool_calls=calls))
    assert (row["tool_calls"], row["tool_calls_failed"]) == (3, 1)


def test_every_split_reason_is_a_column():
    row = metrics(Episode("t", 0, split_reasons=Counter({"template": 2})))
    assert {reason: row[f"split/{reason}"] for reason in SplitReason} == {
        reason: 2.0 * (reason == "template") for reason in SplitReason
    }


def test_group_of_equal_rewards_carries_no_information():
    even, uneven = [episode(1.0), episode(1.0)], [episode(1.0), episode(0.5, False)]
    assert step_metrics([Group("a", even), Group("b", uneven)])["groups_informative"] == 0.5


def test_reward_components_are_averaged_by_name():
    assert metrics(episode(1.0), episode(0.0, False))["reward/correct"] == 0.5


def test_step_without_episodes_has_finite_metrics():
    assert set(step_metrics([]).values()) == {0.0}


def test_evaluation_is_read_back_from_its_row():
    evaluation = evaluate([episode(), failed(), episode(0.0, None, "no_print")], step=7, mode="greedy")
    assert Evaluation.from_row(json.loads(json.dumps(evaluation.to_row()))) == evaluation


def test_evaluation_reports_rate_interval_and_what_could_not_count():
    evaluation = evaluate([episode(), episode(0.0, False), episode(0.0, None), failed()], step=0, mode="sampled")
    assert (evaluation.n, evaluation.n_solved, evaluation.n_ungradable, evaluation.n_failed) == (4, 1, 1, 1)
    assert evaluation.ci95[0] < evaluation.success == 0.25 < evaluation.ci95[1]
