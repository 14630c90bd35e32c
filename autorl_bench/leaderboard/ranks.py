"""Ranks that do not pretend to know more than the intervals say."""

from __future__ import annotations

from collections.abc import Mapping

from autorl_bench.leaderboard.bootstrap import RESAMPLES
from autorl_bench.leaderboard.compare import BySeed, difference, improvement


def ranks(agents: Mapping[str, BySeed], *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, int]:
    """A rank for each agent with at least one run, best first, ties where the data cannot tell.

    Two agents differ when the 95 % interval of their paired difference leaves out 0. (Whether their own two
    intervals overlap is a weaker test: most of their width is items that are hard for both, which the pairing
    cancels.) "Not different" is not transitive, so groups are built: agents in order of their mean improvement,
    best first; each joins the current group when it differs from no member of it, and opens the next group
    otherwise. All of a group share the rank 1 + (number of agents before the group). Hence:

    - ranks follow the means;
    - among agents with the same seeds no two of one rank differ, and one that beats another has a better rank;
    - where seeds are missing the order of two means may contradict the difference on the common seeds: then the
      two are treated as tied, and no agent is put below one that it beats because of it.

    The price is that neighbours on both sides of a group's border need not differ: a border between B and C may come
    from A, with which B is tied and C is not. Joining chains of neighbours instead would give one rank to agents
    that do differ. The intervals are at 95 % each, without correction for the number of pairs.
    """
    means = {name: improvement(runs, resamples=resamples, seed=seed).mean for name, runs in agents.items()}
    order = sorted(agents, key=lambda name: (-means[name], name))

    def tied(name: str, other: str) -> bool:
        return difference(agents[other], agents[name], resamples=resamples, seed=seed).decided <= 0

    groups: list[list[str]] = []
    for name in order:
        if groups and all(tied(name, member) for member in groups[-1]):
            groups[-1].append(name)
        else:
            groups.append([name])
    before = [sum(len(group) for group in groups[:index]) for index in range(len(groups))]
    return {name: 1 + count for group, count in zip(groups, before, strict=True) for name in group}
