"""A campaign from a file and from options: what overrides what, and what a mistake is told."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from astune.errors import ConfigError, UserError
from autorl_bench.agents import AgentRegistry
from autorl_bench.cli import _parser
from autorl_bench.operate.plan import Plan

ROOT = Path(__file__).resolve().parents[3]


def options(*arguments: str) -> argparse.Namespace:
    return _parser().parse_args(["run", *arguments])


def campaign(folder: Path, text: str) -> str:
    (folder / "campaign.yaml").write_text(text)
    return str(folder / "campaign.yaml")


def test_a_file_says_what_is_run(tmp_path: Path):
    file = campaign(tmp_path, "agents: [a, b]\nscenario: nano_code\nbudget: 2m\nseeds: 3\ntrack: replay\n")
    plan = Plan.of(options("--conf", file))
    assert (plan.agents, plan.scenario, plan.budget, plan.seeds, plan.track) == (
        ["a", "b"],
        "nano_code",
        120,
        3,
        "replay",
    )


def test_options_override_the_file(tmp_path: Path):
    file = campaign(tmp_path, "agents: [a, b]\nbudget: 2m\nseeds: 3\n")
    plan = Plan.of(options("--conf", file, "--agent", "c", "--budget", "90", "--seeds", "1"))
    assert (plan.agents, plan.budget, plan.seeds) == (["c"], 90, 1)


def test_without_a_file_the_options_are_all():
    plan = Plan.of(options("--agent", "a", "--agent", "a"))
    assert (plan.agents, plan.scenario, plan.budget, plan.seeds, plan.runner) == (["a"], "nano_gsm", None, 1, "local")


def test_no_agent_is_told():
    with pytest.raises(UserError, match="name an agent with --agent"):
        Plan.of(options())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("agents: [a]\nseed: 3\n", "campaign.yaml:2: .*seed.*did you mean.*seeds"),
        ("agents: [a]\nseeds: 0\n", "campaign.yaml:2: seeds"),
        ("agents: []\n", "campaign.yaml:1: agents"),
        ("agents: [a]\nbudget: soon\n", "campaign.yaml:2: budget.*soon"),
        ("agents: [a]\nbudget: 0\n", "campaign.yaml:2: budget"),
        ("- a\n", "campaign.yaml:1: a campaign is a mapping"),
        ("agents: [a\n", "campaign.yaml:"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(tmp_path: Path, text: str, told: str):
    with pytest.raises(ConfigError, match=told):
        Plan.of(options("--conf", campaign(tmp_path, text)))


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="nowhere.yaml: the campaign can't be read"):
        Plan.of(options("--conf", str(tmp_path / "nowhere.yaml")))


def test_arguments_of_the_file_reach_their_agent_and_those_of_the_command_line_come_last(tmp_path: Path):
    plan = Plan.of(options("--conf", campaign(tmp_path, "agents: [a, b]\narguments: {a: {x: 1, y: [2, three]}}\n")))
    assert plan.overrides("a", ["x=5"]) == ["x=1", 'y=[2, "three"]', "x=5"]
    assert plan.overrides("b", []) == []


def test_the_bundled_campaign_names_agents_that_there_are():
    plan = Plan.of(options("--conf", str(ROOT / "configs" / "bench.yaml")))
    assert set(plan.agents) <= set(AgentRegistry().ids)
