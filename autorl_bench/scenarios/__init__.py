"""Scenarios: which base model, data, prompt, checker and budget a run is about. One YAML each."""

from autorl_bench.scenarios.checkers import make_checker
from autorl_bench.scenarios.prepare import Missing, missing, prepare
from autorl_bench.scenarios.registry import ScenarioRegistry, UnknownScenario, load_scenario
from autorl_bench.scenarios.schema import Scenario
from autorl_bench.scenarios.sources import Roots, load_items
from autorl_bench.scenarios.views import details, four_fields

__all__ = [
    "Missing",
    "Roots",
    "Scenario",
    "ScenarioRegistry",
    "UnknownScenario",
    "details",
    "four_fields",
    "load_items",
    "load_scenario",
    "make_checker",
    "missing",
    "prepare",
]
