"""The comparisons of benchmarks/refine_training.py, on hand-made outcomes."""

import importlib.util
from pathlib import Path

import pytest

from astune.report.run_folder import RunFolder

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "refine_training.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("refine_training", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_differences_are_paired_by_problem_and_told_by_seed(script):
    runs = [
        {"sampled": {"before": {"a": False, "b": True}, "after": {"b": True, "a": True}}},
        {"sampled": {"before": {"a": True, "b": True}, "after": {"a": False, "b": True}}},
    ]
    found = script.compare(runs, "sampled", "before", "after")
    assert found["by_seed"] == [0.5, -0.5]
    assert found["difference"] == 0.0
    assert found["p_value"] == 1.0


def test_the_run_without_refinement_gets_the_steps_that_sample_as_many_tokens(script, tmp_path):
    folder = RunFolder("joint", tmp_path).create()
    for step in (1, 2):
        row = {"prompt_tokens": 300.0, "completion_tokens": 100.0}
        folder.append_metrics(step, row | {"refine/prompt_tokens": 500.0, "refine/completion_tokens": 300.0})
    assert script.tokens(folder) == 2400
    assert script.steps_of_equal_tokens(folder) == 6
