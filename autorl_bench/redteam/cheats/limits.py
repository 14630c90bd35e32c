"""More than the budget: time, memory, disk, processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from autorl_bench.redteam.arena import Arena, with_codes
from autorl_bench.redteam.attacks import limits
from autorl_bench.redteam.inside import Report
from autorl_bench.redteam.types import Cheat, Defence, Means, Seen
from autorl_bench.store import Track


def _outlive(arena: Arena) -> Seen:
    player = arena.create("outlive_the_deadline")
    seen = arena.run_agent(limits.outlive_the_deadline, player=player)
    beat = player.workspace / "beat"
    before = beat.read_bytes() if beat.exists() else b""
    time.sleep(0.8)
    grown = beat.exists() and beat.read_bytes() != before
    started = ["no daemon was started"] if not before else []
    token = player.refusals(lambda: player.client.status())
    return with_codes(seen, token, [*started, *(["a daemon that goes on"] if grown else [])])


def _disk(arena: Arena) -> Seen:
    player = arena.create("fill_the_disk", disk_gib=0.25)
    seen = arena.run_agent(limits.fill_the_disk, player=player)
    for file in player.workspace.glob("filler-*"):
        file.unlink()
    return seen


def _agent(attack: Callable[[Report], None], **budget: float) -> Callable[[Arena], Seen]:
    def run(arena: Arena) -> Seen:
        return arena.run_agent(attack, player=arena.create(attack.__name__, track=Track.WEIGHTS, **budget))

    return run


def _cheat(inside: Callable[[Report], None], outside: Callable[[Arena], Seen], *codes: str) -> Cheat:
    sentence = (inside.__doc__ or "").strip()
    return Cheat(inside.__name__, sentence, Means.AGENT, Defence.LIMITS, frozenset(codes), outside)


CHEATS = (
    replace(_cheat(limits.outlive_the_deadline, _outlive, "token"), defence=Defence.PROCESSES),
    replace(_cheat(limits.ignore_the_deadline, _agent(limits.ignore_the_deadline, wall_seconds=6), "wall"), slow=True),
    _cheat(limits.fill_the_memory, _agent(limits.fill_the_memory, memory_gib=0.75), "memory"),
    _cheat(limits.fill_the_disk, _disk, "disk"),
    _cheat(limits.one_huge_file, _agent(limits.one_huge_file), "EFBIG"),
    _cheat(limits.fork_bomb, _agent(limits.fork_bomb), "processes"),
    _cheat(limits.burn_the_processors, _agent(limits.burn_the_processors, cpu_seconds=2), "cpu"),
)
