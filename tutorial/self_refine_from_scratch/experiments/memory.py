"""What does an episodic memory add? Reflexion (Shinn et al., 2023, arXiv:2303.11366), reduced to ruling things out.

A task has ten possible plans and one of them works. A trial tries one plan; when it fails, the reflection writes a
lesson, "don't try plan a again", into a memory that holds the last ``size`` lessons. The next trial chooses among the
plans that no lesson rules out (among all, if none is left). Trials end with the first success, or after eight.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import torch

from experiments.table import Table, percent

PLANS, TRIALS, EPISODES = 10, 8, 4000
SIZES = (0, 1, 3, PLANS)


def tables() -> list[Table]:
    """How often a task is solved within eight trials, by the memory's size and the kind of world."""
    worlds: dict[str, Callable[[random.Random, int], bool]] = {
        "the task stays, lessons are right": lambda rng, size: solved(rng, size),
        "a right plan fails 3 times in 10": lambda rng, size: solved(rng, size, slips=0.3),
        "the task changes every trial": lambda rng, size: solved(rng, size, changes=True),
        "lessons blame a plan at random": lambda rng, size: solved(rng, size, blames_at_random=True),
    }
    rows = []
    for label, world in worlds.items():
        cells = []
        for size in SIZES:
            outcomes = torch.tensor([world(random.Random(episode), size) for episode in range(EPISODES)])
            cells.append(percent(outcomes))
        rows.append([label, *cells])
    return [Table("memory", ["world", "no memory", "last lesson", "last 3 lessons", "all lessons"], rows)]


def solved(
    rng: random.Random, size: int, *, slips: float = 0.0, changes: bool = False, blames_at_random: bool = False
) -> bool:
    """One episode: was a trial successful?"""
    memory: deque[int] = deque(maxlen=size)
    right = rng.randrange(PLANS)
    for _ in range(TRIALS):
        open_plans = [plan for plan in range(PLANS) if plan not in memory] or list(range(PLANS))
        plan = rng.choice(open_plans)
        if plan == right and rng.random() >= slips:
            return True
        blamed = rng.choice([other for other in range(PLANS) if other != plan]) if blames_at_random else plan
        if blamed not in memory:
            memory.append(blamed)
        if changes:
            right = rng.randrange(PLANS)
    return False
