from __future__ import annotations

from astune.report.cases import choose_cases, choose_episodes
from astune.task_reader.types import Task
from astune.trace import Episode
from tests.report.demo import make_episode, make_episodes, make_task


def episodes(tasks: list[Task], *habits: str | None, skill: float = 1.0) -> list[Episode]:
    return [make_episode(task, 0, habit, skill, seed=0) for task, habit in zip(tasks, habits, strict=True)]


TASKS = [make_task(index) for index in range(4)]


def test_each_lost_habit_is_shown_once_by_its_first_problem():
    before = episodes(TASKS, "malformed_call", "no_print", "no_print", "premature_answer")
    chosen = choose_cases(TASKS, before, episodes(TASKS, None, None, None, None))
    assert [(case.title, case.task) for case in chosen] == [
        ("Habit lost: forgot to print", TASKS[1]),
        ("Habit lost: answered before the tool", TASKS[3]),
        ("Habit lost: malformed tool call", TASKS[0]),
    ]


def test_what_still_fails_is_shown_too():
    wrong = episodes(TASKS, None, "no_print", None, None, skill=0.0)
    assert [case.title for case in choose_cases(TASKS, wrong, wrong)] == ["Still failing"] * 2


def test_what_training_broke_is_shown_too():
    solved, wrong = (episodes(TASKS, None, None, None, None, skill=skill) for skill in (1.0, 0.0))
    assert [case.title for case in choose_cases(TASKS, solved, wrong)] == ["Solved before, failing now"]


def test_no_problem_is_shown_twice():
    chosen = choose_cases(TASKS, make_episodes(TASKS, 0.0, seed=1), make_episodes(TASKS, 1.0, seed=2))
    assert len({case.task.task_id for case in chosen}) == len(chosen)


def test_problem_without_a_recorded_trajectory_is_left_out():
    nothing = [Episode(task.task_id, 0, stop_reason="timeout", error="took too long") for task in TASKS]
    assert choose_cases(TASKS, nothing, nothing) == []


def test_failed_episodes_are_shown_first_and_the_rest_in_order():
    made = episodes(TASKS, None, None, None, None)
    made[2].error = "took too long"
    shown = choose_episodes(TASKS, made, limit=3)
    assert [(item.task, item.episode) for item in shown] == [(TASKS[n], made[n]) for n in (2, 0, 1)]


def test_an_episode_whose_problem_was_not_kept_is_shown_without_it():
    assert [item.task for item in choose_episodes([], episodes(TASKS[:1], None))] == [None]
