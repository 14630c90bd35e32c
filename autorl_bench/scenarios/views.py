"""What others are told of a scenario: the seed's four fields, and all that an agent may know."""

from __future__ import annotations

from typing import Any

from autorl_bench.scenarios.schema import Scenario

FOUR_FIELDS = ("base_model_path", "train_data_path", "baseline_score", "metric")
#: Sections that say how an answer is asked for, sampled and graded, and what a run may use.
_OPEN_SECTIONS = ("n", "prompt", "generation", "budget")


def four_fields(scenario: Scenario) -> dict[str, Any]:
    """The JSON of ``GET /scenarios/{id}``: four fields, in their order."""
    return {name: getattr(scenario, name) for name in FOUR_FIELDS}


def details(scenario: Scenario) -> dict[str, Any]:
    """The JSON of ``GET /scenarios/{id}/details``: all that an agent may know.

    What is not listed here is not told: the seed, the vault's files, the arguments of generator and checker.
    Classes are named without the folder that they stand in.
    """
    sections = {name: getattr(scenario, name).model_dump(mode="json") for name in _OPEN_SECTIONS}
    return {
        "id": scenario.id,
        "title": scenario.title,
        **four_fields(scenario),
        **sections,
        "episode": scenario.episode.model_dump(mode="json") | {"workflow": _class_name(scenario.episode.workflow)},
        "checker": _class_name(scenario.checker),
        "decoding": "greedy",
        "test_is_drawn_anew": scenario.source.type == "generator",
    }


def _class_name(path: str | None) -> str | None:
    """``/somewhere/file.py->Class`` as ``file.py->Class``; names of modules stay as they are."""
    if path is None or not path.partition("->")[0].endswith(".py"):
        return path
    return path.rsplit("/", 1)[-1]
