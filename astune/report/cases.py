"""Which problems and episodes the report shows: chosen by rule, not by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from astune.report.metrics import HABIT_LABELS, HABITS, is_solved
from astune.task_reader.types import Task
from astune.trace import Episode


@dataclass(frozen=True, slots=True)
class Case:
    """One held-out problem, twice."""

    title: str
    task: Task
    before: Episode
    after: Episode


def choose_cases(tasks: Sequence[Task], before: Sequence[Episode], after: Sequence[Episode]) -> list[Case]:
    """The first problem, in held-out order, of each kind that occurs.

    The kinds: for each habit, a problem that showed it and failed before and is solved without it
    after; two problems that still fail; one that was solved before and no longer is; one solved both times.
    """
    first = _first_samples(before)
    last = _first_samples(after)
    shared = [task for task in tasks if task.task_id in first and task.task_id in last]
    pairs = [(task, first[task.task_id], last[task.task_id]) for task in shared]
    cases: list[Case] = []
    for title, limit, fits in _kinds():
        taken = {case.task.task_id for case in cases}
        fresh = (pair for pair in pairs if pair[0].task_id not in taken and fits(pair[1], pair[2]))
        cases += [Case(title, task, old, new) for (task, old, new), _ in zip(fresh, range(limit), strict=False)]
    return cases


@dataclass(frozen=True, slots=True)
class ShownEpisode:
    """One episode, with its problem where that was kept."""

    task: Task | None
    episode: Episode


def choose_episodes(tasks: Iterable[Task], episodes: Iterable[Episode], limit: int = 12) -> list[ShownEpisode]:
    """At most ``limit`` episodes in recorded order: first those that failed, then the others."""
    by_id = {task.task_id: task for task in tasks}
    failed_first = sorted(episodes, key=lambda episode: episode.error is None)
    return [ShownEpisode(by_id.get(episode.task_id), episode) for episode in failed_first[:limit]]


def _first_samples(episodes: Iterable[Episode]) -> dict[str, Episode]:
    chosen: dict[str, Episode] = {}
    for episode in episodes:
        known = chosen.get(episode.task_id)
        if episode.trajectories and (known is None or episode.sample_index < known.sample_index):
            chosen[episode.task_id] = episode
    return chosen


def _kinds() -> list[tuple[str, int, Callable[[Episode, Episode], bool]]]:
    def lost(habit: str) -> Callable[[Episode, Episode], bool]:
        return lambda old, new: (
            bool(old.habits.get(habit)) and not is_solved(old) and is_solved(new) and not any(new.habits.values())
        )

    return [
        *((f"Habit lost: {HABIT_LABELS[habit]}", 1, lost(habit)) for habit in HABITS),
        ("Still failing", 2, lambda old, new: not is_solved(old) and not is_solved(new)),
        ("Solved before, failing now", 1, lambda old, new: is_solved(old) and not is_solved(new)),
        ("Solved both times", 1, lambda old, new: is_solved(old) and is_solved(new)),
    ]
