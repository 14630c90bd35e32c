import json

import pytest

from astune.errors import TaskError
from astune.models.load import load_policy
from astune.task_reader.dataset_file import read_dataset_file
from autorl_bench.scenarios import Roots, ScenarioRegistry, load_items, load_scenario, missing, prepare
from autorl_bench.scenarios.prepare import write_train_data


def test_gsm8k_says_which_files_are_missing_and_how_to_get_each(roots: Roots):
    scenario = ScenarioRegistry().get("gsm8k")
    lacking = {str(entry.path): entry.how for entry in missing(scenario, roots)}
    assert list(lacking) == [
        str(roots.public / "assets/models/Qwen2.5-3B-Instruct"),
        str(roots.vault / "gsm8k/train.jsonl"),
        str(roots.vault / "gsm8k/test.jsonl"),
    ]
    with pytest.raises(TaskError) as caught:
        prepare(scenario, roots)
    assert all(path in str(caught.value) and how in str(caught.value) for path, how in lacking.items())
    assert not roots.public.exists()


def test_the_commands_that_get_gsm8k_name_the_files_that_are_missing(roots: Roots):
    lacking = missing(ScenarioRegistry().get("gsm8k"), roots)
    assert [str(entry.path) in entry.how for entry in lacking] == [True, True, True]
    assert not [entry.how for entry in lacking if "{" in entry.how]


def test_a_folder_without_weights_is_no_base_model(roots: Roots):
    folder = roots.public / "assets/models/Qwen2.5-3B-Instruct"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert folder in [entry.path for entry in missing(ScenarioRegistry().get("gsm8k"), roots)]


def test_a_bundled_scenario_prepares_its_model_and_its_training_data(scenario_file, roots: Roots):
    scenario = load_scenario(scenario_file())
    assert missing(scenario, roots) == []
    prepare(scenario, roots)
    load_policy(roots.public / scenario.base_model_path)
    assert len(read_dataset_file(roots.public / scenario.train_data_path)) == 20


def test_the_copied_model_holds_no_code(scenario_file, roots: Roots):
    scenario = load_scenario(scenario_file())
    prepare(scenario, roots)
    folder = roots.public / scenario.base_model_path
    assert {file.suffix for file in folder.iterdir()} == {".safetensors", ".json", ".jinja"}
    assert not (folder / "measured.json").exists()


def test_training_data_hold_no_held_out_problem(scenario_file, roots: Roots):
    scenario = load_scenario(scenario_file())
    text = write_train_data(scenario, roots).read_text()
    held_out = [*load_items(scenario, "dev", roots), *load_items(scenario, "test", roots, run_seed=1)]
    assert not [item for item in held_out if item.messages[-1]["content"] in text or item.id in text]


def test_training_data_are_written_once_and_mended_when_changed(scenario_file, roots: Roots):
    scenario = load_scenario(scenario_file())
    path = write_train_data(scenario, roots)
    content, written = path.read_bytes(), path.stat().st_mtime_ns
    assert write_train_data(scenario, roots).stat().st_mtime_ns == written
    path.write_text("spoiled")
    assert write_train_data(scenario, roots).read_bytes() == content


def test_functions_come_with_tests_to_train_on(roots: Roots):
    path = write_train_data(ScenarioRegistry().get("nano_code"), roots)
    record = json.loads(path.read_text().splitlines()[0])
    assert list(record) == ["id", "question", "answer", "tests"]
    space: dict = {}
    exec(record["answer"], space)
    assert [space["f"](*arguments) for arguments, _ in record["tests"]] == [expected for _, expected in record["tests"]]
