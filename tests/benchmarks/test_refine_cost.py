"""What the refine stage computes, in tokens: by the rows that it refines, and common beginnings once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import refine_cost

TASKS, GROUP = 2, 4


@pytest.fixture(scope="module")
def costs(project_root: Path) -> Iterator[dict[tuple[str, float], dict[str, float]]]:
    """Every way of the benchmark, but for the rival library, at two shares of wrong answers."""
    config = refine_cost.load_config(project_root / refine_cost.CONF, ["refine.max_tokens=24", "rollout.max_tokens=24"])
    with refine_cost.run_parts(config) as parts:
        tasks = refine_cost.read_tasks(config.task_reader)[:TASKS]
        groups = refine_cost.first_answers(parts, tasks, GROUP)
        yield {
            (way, share): refine_cost.measure(parts, tasks, refine_cost.marked(groups, share), way)
            for way in ("stage", "full batch, shared", "full batch")
            for share in (0.25, 1.0)
        }


Costs = dict[tuple[str, float], dict[str, float]]


def test_the_stage_refines_the_wrong_rows_and_an_expanded_batch_all_of_them(costs: Costs):
    assert [costs["stage", share]["rows"] for share in (0.25, 1.0)] == [2, 8]
    assert [costs["full batch", share]["rows"] for share in (0.25, 1.0)] == [8, 8]


def test_its_cost_grows_with_the_rows_that_it_refines(costs: Costs):
    few, all_of_them = (costs["stage", share]["forwarded_tokens"] for share in (0.25, 1.0))
    assert few < 0.6 * all_of_them
    assert few < costs["full batch, shared", 0.25]["forwarded_tokens"]


def test_prompts_of_critics_and_refiners_share_what_they_begin_with(costs: Costs):
    shared, alone = costs["full batch, shared", 1.0], costs["full batch", 1.0]
    assert shared["decode_tokens"] == alone["decode_tokens"]
    assert 2 * shared["prefill_tokens"] < alone["prefill_tokens"]
    assert costs["stage", 1.0]["prefill_tokens"] == shared["prefill_tokens"]
