"""Every cheat is stopped and named; honest agents pass."""

from __future__ import annotations

import pytest

from autorl_bench.redteam.arena import Arena
from autorl_bench.redteam.honest import HONEST
from autorl_bench.redteam.registry import cheats
from autorl_bench.redteam.types import Cheat, Honest, judge, problems_of

_CASES = [pytest.param(one, id=name, marks=[pytest.mark.slow] * one.slow) for name, one in cheats().items()]


@pytest.mark.parametrize("cheat", _CASES)
def test_the_cheat_gets_nothing_and_is_named(cheat: Cheat, attacked: Arena) -> None:
    assert judge(cheat, cheat.attack(attacked)).problems == ()


@pytest.mark.slow
@pytest.mark.parametrize("agent", HONEST, ids=[one.name for one in HONEST])
def test_an_honest_agent_gets_its_score_and_no_flag(agent: Honest, attacked: Arena) -> None:
    assert problems_of(agent.run(attacked)) == ()
