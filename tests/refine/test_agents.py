"""agent_type: names, class paths, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from astune.errors import ConfigError
from astune.refine.agents import make_agent, register_agent, registered_agents, resolve_agent
from astune.refine.self_refine_agent import SelfRefineAgent
from tests.refine.fake_stage import FakeStage

AGENT_FILE = """
class MyAgent:
    def __init__(self, trainer, **kwargs):
        self.trainer, self.kwargs = trainer, kwargs

    def refine_batch(self, inputs, original_result, original_prompts, answers, solutions, correctness_mask,
                     batch_counter=0):
        return original_result


class NoAgent:
    pass
"""


def test_self_refine_is_known_by_name():
    assert resolve_agent("self_refine") is SelfRefineAgent


def test_an_agent_is_made_with_the_trainer_and_its_options():
    agent = make_agent("self_refine", FakeStage([], str).trainer, use_critique=False, max_refine_rounds=2)
    assert (agent.options.use_critique, agent.options.max_rounds) == (False, 2)


def test_a_registered_class_is_known_by_its_name():
    @register_agent("test_registered")
    class Agent:
        def refine_batch(self): ...

    assert resolve_agent("test_registered") is Agent
    assert "test_registered" in registered_agents()


def test_a_class_path_names_any_class(tmp_path: Path):
    (tmp_path / "mine.py").write_text(AGENT_FILE)
    agent = make_agent(f"{tmp_path / 'mine.py'}->MyAgent", "the trainer", use_critique=True)
    assert (agent.trainer, agent.kwargs) == ("the trainer", {"use_critique": True})


def test_an_unknown_type_names_the_known_ones_and_the_nearest():
    with pytest.raises(ConfigError, match=r"'self_refin' is not known \(did you mean 'self_refine'\?\).*'self_refine'"):
        resolve_agent("self_refin")


def test_a_class_without_refine_batch_is_refused(tmp_path: Path):
    (tmp_path / "mine.py").write_text(AGENT_FILE)
    with pytest.raises(ConfigError, match="NoAgent has no method refine_batch"):
        resolve_agent(f"{tmp_path / 'mine.py'}->NoAgent")


def test_options_that_the_agent_does_not_take_are_named():
    with pytest.raises(ConfigError, match="unexpected keyword argument 'rounds'"):
        make_agent("self_refine", FakeStage([], str).trainer, rounds=2)


def test_a_name_that_looks_like_a_class_path_cannot_be_registered():
    with pytest.raises(ConfigError, match="plain name"):
        register_agent("a->B")
