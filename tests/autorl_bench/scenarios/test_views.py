import json

import pytest

from autorl_bench.scenarios import Roots, ScenarioRegistry, details, four_fields, load_items, load_scenario


def test_four_fields_are_the_published_json_to_the_letter():
    assert json.dumps(four_fields(ScenarioRegistry().get("gsm8k"))) == (
        '{"base_model_path": "assets/models/Qwen2.5-3B-Instruct", "train_data_path": "assets/data/gsm8k/train.jsonl", '
        '"baseline_score": 62.47, "metric": "accuracy"}'
    )


@pytest.mark.parametrize("scenario_id", ["nano_gsm", "nano_countdown", "nano_code"])
def test_details_tell_no_seed_and_no_held_out_problem(scenario_id, roots: Roots):
    scenario = ScenarioRegistry().get(scenario_id)
    told = json.dumps(details(scenario))
    hidden = load_items(scenario, "test", roots, run_seed=scenario.seed)[:50] + load_items(scenario, "dev", roots)[:50]
    assert "seed" not in told and str(scenario.seed) not in told
    assert not [item.id for item in hidden if item.id in told or item.messages[-1]["content"] in told]


def test_details_tell_no_file_of_the_vault():
    told = json.dumps(details(ScenarioRegistry().get("gsm8k")))
    assert "test.jsonl" not in told and "vault" not in told


def test_details_tell_what_an_agent_has_to_know():
    told = details(ScenarioRegistry().get("nano_gsm"))
    assert told["n"]["test"] == 200
    assert told["budget"]["wall_seconds"] == 600
    assert told["generation"]["max_tokens"] == 192
    assert (told["checker"], told["decoding"]) == ("math", "greedy")


def test_a_class_beside_the_yaml_is_told_without_its_folder(scenario_file):
    scenario = load_scenario(scenario_file(("checker: math", "checker: mine.py->Mine")))
    assert details(scenario)["checker"] == "mine.py->Mine"
