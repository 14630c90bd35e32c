import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astune.errors import TaskError
from astune.task_reader.nano_gsm import generate
from autorl_bench.scenarios import Roots, ScenarioRegistry, load_items, load_scenario
from autorl_bench.scenarios.problem import region_of
from autorl_bench.scenarios.sources import load_problems

GENERATED = ["nano_gsm", "nano_countdown", "nano_code"]
SPLITS = ["train", "dev", "test", "twin"]


@pytest.mark.parametrize("scenario_id", GENERATED)
def test_splits_share_no_problem_whatever_the_seeds(scenario_id, roots: Roots):
    scenario = ScenarioRegistry().get(scenario_id)
    keys = {
        split: {problem.key for problem in load_problems(scenario, split, roots, run_seed=run_seed)}
        for split, run_seed in zip(SPLITS, (1, 2, 3, 3), strict=True)
    }
    sizes = [scenario.n.of(split) for split in SPLITS]
    assert [len(keys[split]) for split in SPLITS] == sizes
    assert len(set().union(*keys.values())) == sum(sizes)


@given(st.text(), st.integers())
@settings(max_examples=50)
def test_a_key_has_one_split_for_good(key, seed):
    assert region_of(key) == region_of(key) in SPLITS


def test_held_out_problems_are_held_out_of_nano_gsms_own_training_too():
    trained_on = {problem.question for problem in generate(2000, seed=0, split="train")}
    assert {region_of(question) for question in trained_on} == {"train"}


@pytest.mark.parametrize("scenario_id", GENERATED)
def test_the_hidden_test_is_drawn_anew_for_each_run(scenario_id, roots: Roots):
    scenario = ScenarioRegistry().get(scenario_id)
    ids = [[item.id for item in load_items(scenario, "test", roots, run_seed=seed)] for seed in (1, 1, 2)]
    assert ids[0] == ids[1]
    assert len(set(ids[0]) & set(ids[2])) < len(ids[0]) / 5


def test_dev_does_not_depend_on_the_run(roots: Roots):
    scenario = ScenarioRegistry().get("nano_gsm")
    assert load_items(scenario, "dev", roots, run_seed=1) == load_items(scenario, "dev", roots)


def test_a_hidden_split_without_the_runs_seed_is_refused(roots: Roots):
    with pytest.raises(ValueError, match="give the run's seed"):
        load_items(ScenarioRegistry().get("nano_gsm"), "test", roots)


@pytest.mark.parametrize("scenario_id", GENERATED)
def test_items_hold_no_solution(scenario_id, roots: Roots):
    scenario = ScenarioRegistry().get(scenario_id)
    problems = load_problems(scenario, "test", roots, run_seed=5)
    items = load_items(scenario, "test", roots, run_seed=5)
    asked = [item.messages[-1]["content"] for item in items]
    assert asked == [scenario.prompt.user.replace("{question}", problem.question) for problem in problems]
    assert not any(problem.solution in text for problem, text in zip(problems, asked, strict=True))


def test_more_problems_than_a_generator_has_are_refused(scenario_file, roots: Roots):
    ranges = "generator: countdown, arguments: {min_numbers: 2, max_numbers: 2, max_value: 3, max_target: 9}}"
    scenario = load_scenario(scenario_file(("generator: nano_gsm}", ranges)))
    with pytest.raises(TaskError, match="distinct problems for train; set n.train to that"):
        load_items(scenario, "train", roots)


def test_the_prompt_stands_around_the_question(scenario_file, roots: Roots):
    prompt = 'seed: 7\nprompt: {system: Be brief., user: "Q: {question}\\nA:"}'
    item = load_items(load_scenario(scenario_file(("seed: 7", prompt))), "dev", roots)[0]
    assert item.messages[0] == {"role": "system", "content": "Be brief."}
    assert item.messages[1]["content"].startswith("Q: ") and item.messages[1]["content"].endswith("\nA:")


# --- files ------------------------------------------------------------------------------------------------------

GENERATOR = "source: {type: generator, generator: nano_gsm}"
N = "n: {train: 20, dev: 5, test: 10, twin: 10}"


@given(n_dev=st.integers(1, 10), seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_give_disjoint_splits_and_dev_leaves_the_rest(scenario_file, file_source, roots, n_dev, seed):
    changes = ((GENERATOR, file_source), (N, f"n: {{dev: {n_dev}, test: 10}}"), ("seed: 7", f"seed: {seed}"))
    scenario = load_scenario(scenario_file(*changes))
    keys = {split: {p.key for p in load_problems(scenario, split, roots)} for split in ("train", "dev", "test")}
    assert {split: len(found) for split, found in keys.items()} == {"train": 30 - n_dev, "dev": n_dev, "test": 10}
    assert len(set().union(*keys.values())) == 40


@pytest.fixture
def file_source(questions) -> str:
    return questions(30, 10, shared=3)


def test_files_have_no_twin(scenario_file, file_source, roots):
    scenario = load_scenario(scenario_file((GENERATOR, file_source), (N, "n: {dev: 5, test: 10}")))
    with pytest.raises(TaskError, match="files have no twin"):
        load_items(scenario, "twin", roots)


def test_a_file_that_is_missing_is_named_with_the_way_to_get_it(scenario_file, file_source, roots):
    scenario = load_scenario(scenario_file((GENERATOR, file_source), (N, "n: {dev: 5, test: 10}")))
    (roots.vault / "small" / "test.jsonl").unlink()
    with pytest.raises(TaskError, match=r"small/test.jsonl: no such file. Get it: fetch test"):
        load_items(scenario, "test", roots)


def test_a_file_of_another_version_is_refused(scenario_file, file_source, roots):
    hashed = file_source.replace('"how": "fetch test"', f'"how": "fetch test", "sha256": "{"0" * 64}"')
    scenario = load_scenario(scenario_file((GENERATOR, hashed), (N, "n: {dev: 5, test: 10}")))
    with pytest.raises(TaskError, match=f"not {'0' * 64}: another version. Get it: fetch test"):
        load_items(scenario, "test", roots)


def test_fewer_records_than_items_are_refused(scenario_file, file_source, roots):
    scenario = load_scenario(scenario_file((GENERATOR, file_source), (N, "n: {dev: 5, test: 11}")))
    with pytest.raises(TaskError, match="n.test is 11, but its files hold 10"):
        load_items(scenario, "test", roots)


def test_gsm8k_has_its_1319_test_items_and_every_training_problem_once(gsm8k, tmp_path):
    roots = Roots(tmp_path, gsm8k.parent)
    scenario = ScenarioRegistry().get("gsm8k")
    sizes = {split: len(load_items(scenario, split, roots)) for split in ("train", "dev", "test")}
    assert sizes == {"train": 6973, "dev": 500, "test": 1319}
