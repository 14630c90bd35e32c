"""The baselines in the YAMLs are what the evaluator measures on the items that the scenario's own seed draws."""

import pytest

from autorl_bench.evaluator import evaluate
from autorl_bench.scenarios import Roots, ScenarioRegistry, load_items, make_checker, prepare


@pytest.mark.slow
@pytest.mark.parametrize("scenario_id", ["nano_gsm", "nano_countdown", "nano_code"])
def test_the_base_model_scores_the_published_baseline(scenario_id, roots: Roots):
    scenario = ScenarioRegistry().get(scenario_id)
    prepare(scenario, roots)
    base = roots.public / scenario.base_model_path
    items = load_items(scenario, "test", roots, run_seed=scenario.seed)
    checker, log_dir = make_checker(scenario), roots.vault / "log"
    found = evaluate(base, base, items, checker, scenario.generation, log_dir=log_dir, episode=scenario.episode)
    # One item's leeway: other processors add floats in another order.
    assert found.accuracy == pytest.approx(scenario.baseline_score, abs=100 / len(items) + 1e-9)
