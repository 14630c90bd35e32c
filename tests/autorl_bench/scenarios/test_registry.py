import re
from pathlib import Path

import pytest

from astune.config.load import load_config
from astune.errors import ConfigError
from autorl_bench.scenarios import ScenarioRegistry, UnknownScenario, load_scenario, make_checker
from autorl_bench.scenarios.sources import make_generator

BUNDLED = ScenarioRegistry().ids
ROOT = Path(__file__).parents[3]


def test_the_bundled_scenarios_are_known_by_their_files_names():
    assert BUNDLED == ("gsm8k", "nano_code", "nano_countdown", "nano_gsm")


@pytest.mark.parametrize("scenario_id", BUNDLED)
def test_every_bundled_scenario_can_make_its_parts(scenario_id):
    scenario = ScenarioRegistry().get(scenario_id)
    make_checker(scenario)
    if scenario.source.type == "generator":
        make_generator(scenario)


@pytest.mark.parametrize("scenario_id", BUNDLED)
def test_every_reference_recipe_is_a_configuration_that_the_trainer_takes(scenario_id):
    scenario = ScenarioRegistry().get(scenario_id)
    for recipe in (recipe for recipe in scenario.recipes if recipe.conf is not None):
        filled = [text.format(base_model="nano", train_data="train.jsonl") for text in recipe.overrides]
        load_config(ROOT / recipe.conf, filled)


def test_an_unknown_id_is_answered_with_the_known_ones_and_the_nearest():
    with pytest.raises(UnknownScenario) as caught:
        ScenarioRegistry().get("nano_gms")
    assert caught.value.known == BUNDLED
    assert "known are gsm8k, nano_code, nano_countdown, nano_gsm; did you mean 'nano_gsm'?" in str(caught.value)


def test_a_path_is_no_id():
    with pytest.raises(UnknownScenario):
        ScenarioRegistry().get("../scenarios/nano_gsm")


def test_scenarios_of_a_further_folder_stand_beside_the_bundled_ones(scenario_file):
    registry = ScenarioRegistry([scenario_file().parent])
    assert registry.ids == tuple(sorted((*BUNDLED, "small")))
    assert registry.get("small").id == "small"


def test_a_further_folder_cannot_replace_a_bundled_scenario(scenario_file):
    file = scenario_file(name="nano_gsm")
    with pytest.raises(ConfigError, match="the scenario id 'nano_gsm' is taken"):
        ScenarioRegistry([file.parent])


def test_a_file_whose_name_is_no_id_is_refused(scenario_file):
    file = scenario_file(name="My Scenario")
    with pytest.raises(ConfigError, match="'My Scenario' is no scenario id"):
        ScenarioRegistry([file.parent])


def test_a_further_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="none does not exist"):
        ScenarioRegistry([tmp_path / "none"])


@pytest.mark.parametrize(
    "old, new, line, message",
    [
        ("generation: {max_tokens: 16}", "generation: {max_token: 16}", 9, "did you mean 'max_tokens'?"),
        (
            "generation: {max_tokens: 16}",
            "generation: {max_tokens: '16'}",
            9,
            "generation.max_tokens should be a valid",
        ),
        ("metric: accuracy", "metric: acuracy", 5, "did you mean 'accuracy'?"),
        ("wall_seconds: 60", "wall_seconds: 0", 11, "budget.wall_seconds should be greater than 0, got 0"),
        ("submissions: 1", "submissions: 0", 11, "budget.submissions should be greater than or equal to 1"),
        ("baseline_score: 10.0", "baseline_score: 101", 4, "should be less than or equal to 100"),
        ("assets/models/nano", "../nano", 2, "should be a relative path without '..'"),
        ("assets/models/nano", "/etc", 2, "should be a relative path without '..'"),
        ("{bundled: nano}", "{}", 6, "one of the two"),
        ("generator: nano_gsm}", "generator: null}", 7, "type is generator, but `generator` is not given"),
        ("train: 20, ", "", 1, "a generator has no end"),
        ("seed: 7", "seed: 7\nepisode: {kind: workflow}", 13, "which names no workflow"),
        ("seed: 7", "seed: 7\nprompt: {user: Solve.}", 13, "should hold {question} once"),
        ("seed: 7", "seed: 7\nid: other", 13, "the id is the file's name"),
        ("seed: 7", "seed: 7\nseed: 8", 13, "the key 'seed' is given twice"),
        ("seed: 7", "seed: [7", 13, "not valid YAML"),
        ("title: Small", "titel: Small", 1, "unknown key 'titel'; did you mean 'title'?"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_remedy(scenario_file, old, new, line, message):
    file = scenario_file((old, new))
    with pytest.raises(ConfigError) as caught:
        load_scenario(file)
    told = str(caught.value)
    assert message in told
    if line > 1:
        assert re.search(rf"{re.escape(str(file))}:{line}:", told)
    assert str(file) in told


def test_a_file_that_holds_no_mapping_is_refused(tmp_path):
    file = tmp_path / "list.yaml"
    file.write_text("- 1\n")
    with pytest.raises(ConfigError, match=r"list.yaml:1: a scenario is a mapping"):
        load_scenario(file)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a UTF-8 text"):
        load_scenario(file)


def test_one_broken_scenario_leaves_the_others_usable(scenario_file):
    file = scenario_file(("metric: accuracy", "metric: none"))
    assert ScenarioRegistry([file.parent]).get("nano_gsm").metric == "accuracy"


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("checker: math", "checker: maths", "checker 'maths' is not bundled (math, countdown, python_function)"),
        ("checker: math", "checker: json->JSONDecoder", "a checker needs a method 'grade'"),
        ("checker: math", "checker: math\nchecker_arguments: {strict: true}", "refuses its arguments {'strict': True}"),
    ],
)
def test_a_checker_that_cannot_be_made_is_told(scenario_file, key, value, message):
    scenario = load_scenario(scenario_file((key, value)))
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_checker(scenario)


def test_a_generators_bad_arguments_are_told(scenario_file):
    file = scenario_file(("generator: nano_gsm}", "generator: nano_gsm, arguments: {families: [egg_sale]}}"))
    with pytest.raises(ConfigError, match="unknown families"):
        make_generator(load_scenario(file))
