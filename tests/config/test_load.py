"""A configuration file becomes one checked object, and mistakes in it are named with their line."""

from pathlib import Path

import pytest

from astune.config import AstuneConfig, dump_yaml, load_config
from astune.errors import ConfigError

SEED_YAML = """\
astune:
  task_reader:
    type: huggingface_dat_repo   # also: dataset_file / env_service (when enabled)
  rollout:
    agentscope_workflow: tutorial.math_agent->ExampleMathLearn
  task_judge:
    judge_protocol: astune.task_judge.math_answer_as_judge->MathAnswerAndLlmAsJudge
  model:
    path: /mnt/data/model_cache/modelscope/hub/Qwen/Qwen/Qwen2___5-14B-Instruct
"""


@pytest.fixture
def write(tmp_path: Path):
    """Writes a configuration file and returns its path."""

    def write(text: str, name: str = "run.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def problem(path: Path, *overrides: str) -> str:
    """The message of the error, with the file's folder left out."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value).replace(f"{path.parent}/", "")


class TestFile:
    def test_the_documented_example_loads_as_it_stands(self, write):
        config = load_config(write(SEED_YAML))
        assert config.task_reader.type == "huggingface_dat_repo"
        assert config.rollout.workflow_path == "tutorial.math_agent->ExampleMathLearn"
        assert config.task_judge.judge_protocol.endswith("->MathAnswerAndLlmAsJudge")
        assert config.model.path == "/mnt/data/model_cache/modelscope/hub/Qwen/Qwen/Qwen2___5-14B-Instruct"

    def test_what_is_not_given_has_its_default(self, write):
        assert load_config(write("astune: {name: astune}")) == AstuneConfig()

    def test_an_empty_root_is_all_defaults(self, write):
        assert load_config(write("astune:\n", "astune.yaml")) == AstuneConfig()

    def test_the_run_is_named_after_the_file(self, write):
        assert load_config(write("astune: {}", "my run.yaml")).run_folder == Path("saved_experiments/my_run")

    def test_a_printed_configuration_reads_back_unchanged(self, write):
        config = load_config(write(SEED_YAML), ["trainer.learning_rate=1e-4", "task_judge.arguments={a: [1, 2.5]}"])
        assert load_config(write(dump_yaml(config), "again.yaml")) == config

    def test_a_number_with_an_exponent_needs_no_dot(self, write):
        assert load_config(write("astune:\n  trainer:\n    learning_rate: 3e-5\n")).trainer.learning_rate == 3e-5

    def test_sandbox_limits_come_in_the_sandboxs_units(self, write):
        limits = load_config(
            write("astune: {rollout: {sandbox: {memory_mb: 64, output_kb: 2}}}")
        ).rollout.sandbox.limits
        assert (limits.memory, limits.output) == (64 * 2**20, 2048)


class TestMistakes:
    def test_an_unknown_key_is_answered_with_the_nearest(self, write):
        path = write("astune:\n  trainer:\n    steps: 3\n    group_sise: 4\n")
        assert problem(path) == "run.yaml:4: unknown key 'astune.trainer.group_sise'; did you mean 'group_size'?"

    def test_a_key_in_the_wrong_section_is_sent_to_its_own(self, write):
        path = write("astune:\n  rollout:\n    group_size: 4\n")
        assert problem(path) == (
            "run.yaml:3: unknown key 'astune.rollout.group_size'; did you mean 'astune.trainer.group_size'?"
        )

    def test_an_unknown_key_that_is_near_nothing_lists_the_section(self, write):
        path = write("astune:\n  checkpoint:\n    zzz: 4\n")
        assert problem(path) == "run.yaml:3: unknown key 'astune.checkpoint.zzz'; the keys here are every, keep_best"

    def test_a_wrong_type_names_line_and_value(self, write):
        path = write("astune:\n  trainer:\n    steps: ten\n")
        assert problem(path) == "run.yaml:3: astune.trainer.steps should be a valid integer, got 'ten'"

    def test_a_value_is_never_silently_converted(self, write):
        path = write('astune:\n  evaluation:\n    greedy: "yes"\n')
        assert problem(path) == "run.yaml:3: astune.evaluation.greedy should be a valid boolean, got 'yes'"

    def test_a_number_out_of_range_names_the_range(self, write):
        path = write("astune:\n  rollout:\n    top_p: 1.5\n")
        assert problem(path) == "run.yaml:3: astune.rollout.top_p should be less than or equal to 1, got 1.5"

    def test_not_a_number_is_refused(self, write):
        path = write("astune:\n  trainer:\n    learning_rate: .nan\n")
        assert problem(path).startswith("run.yaml:3: astune.trainer.learning_rate should be")

    def test_an_unknown_choice_is_answered_with_the_nearest(self, write):
        path = write("astune:\n  trainer:\n    algorithm: grop\n")
        assert problem(path) == (
            "run.yaml:3: astune.trainer.algorithm should be 'grpo', 'dr_grpo', 'dapo', 'gspo', 'cispo' or 'rloo', "
            "got 'grop'; did you mean 'grpo'?"
        )

    def test_a_group_of_one_is_explained(self, write):
        message = problem(write("astune:\n  trainer:\n    group_size: 1\n"))
        assert message.startswith("run.yaml:3: astune.trainer.group_size: group_size is 1")
        assert "use 4 to 16" in message

    @pytest.mark.parametrize("path", ["tutorial.math_agent", "tutorial.math_agent:Example", "->Example", "a b->C"])
    def test_a_class_path_has_an_arrow(self, write, path):
        text = f"astune:\n  rollout:\n    agentscope_workflow: '{path}'\n"
        assert problem(write(text)) == (
            f"run.yaml:3: astune.rollout.agentscope_workflow should be 'package.module->Class', got '{path}'"
        )

    def test_a_number_for_text_asks_for_quotes(self, write):
        assert problem(write("astune:\n  name: 12\n")) == (
            "run.yaml:2: astune.name should be text, got 12; put it in quotes if it is meant as text"
        )

    def test_a_name_cannot_leave_the_folder_of_runs(self, write):
        assert problem(write("astune:\n  name: ../x\n")).startswith("run.yaml:2: astune.name should match")

    def test_a_section_without_keys_is_named(self, write):
        assert problem(write("astune:\n  model:\n  seed: 1\n")) == (
            "run.yaml:2: astune.model is a section and holds keys of its own, got None"
        )

    def test_a_data_file_without_path_is_refused(self, write):
        message = problem(
            write("astune:\n  task_reader:\n    type: dataset_file\n    dataset_file:\n      answer_key: a\n")
        )
        assert message.startswith("run.yaml:4: astune.task_reader.dataset_file: type is dataset_file, but")

    @pytest.mark.parametrize("section", ["task_reader", "task_reader.heldout"])
    def test_env_service_says_that_it_comes_later(self, write, section):
        message = problem(write("astune: {}"), f"{section}.type=env_service")
        assert f"astune.{section}.type: env_service is not part of this release" in message

    def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(self, write):
        path = write("astune:\n  wobble: 1\n  trainer:\n    steps: -1\n  rollout:\n    top_p: 0\n")
        lines = [line.split(":")[1] for line in problem(path).splitlines()]
        assert lines == ["2", "4", "6"]


class TestBrokenFiles:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "run.yaml:1: the file is empty; it should hold the root key 'astune:'"),
            ("- 1\n", "run.yaml:1: the file should be a mapping with the root key 'astune:'"),
            ("\nastun:\n  seed: 1\n", "run.yaml:2: the root key should be 'astune:', found 'astun'"),
            (
                "astune:\n  seed: 1\ntrainer: {}\n",
                "run.yaml:3: 'trainer' stands beside the root key 'astune:'; indent it to stand below",
            ),
            ("astune: 3\n", "run.yaml:1: 'astune' holds sections, got 3"),
            (
                "astune:\n  seed: 1\n  name: a\n  seed: 2\n",
                "run.yaml:4: the key 'seed' is given twice; the first is in line 2",
            ),
            ("astune:\n  seed: [1\n  name: a\n", "run.yaml:3: not valid YAML: expected ',' or ']', but got ':'"),
            ("astune:\n\tseed: 1\n", "run.yaml:2: not valid YAML: found character '\\t' that cannot start any token"),
            ("astune: &a\n  model: *a\n", "run.yaml:1: an alias refers to the mapping that holds it"),
        ],
    )
    def test_the_message_names_the_line(self, write, text, message):
        assert problem(write(text)) == message

    def test_a_python_object_is_not_made(self, write):
        assert "not valid YAML" in problem(write("astune:\n  name: !!python/object/apply:os.getcwd []\n"))

    def test_a_missing_file_is_answered_with_the_nearest(self, write):
        near = write("astune: {}", "math_agent.yaml")
        assert problem(near.with_name("math_agnt.yaml")) == (
            "math_agnt.yaml: there is no such configuration file; did you mean math_agent.yaml?"
        )

    def test_a_folder_is_not_a_file(self, tmp_path):
        assert "can't be read: Is a directory" in problem(tmp_path)

    def test_other_encodings_are_refused(self, tmp_path):
        path = tmp_path / "run.yaml"
        path.write_bytes("astune: {name: é}".encode("latin-1"))
        assert problem(path) == "run.yaml: the configuration file can't be read: not a UTF-8 text"


class TestOverrides:
    def test_values_are_yaml(self, write):
        config = load_config(
            write("astune: {}"),
            [
                "trainer.steps=7",
                "tracking.tensorboard=true",
                "model.lora={enabled: true, r: 4}",
                "trainer.threads=null",
            ],
        )
        assert (config.trainer.steps, config.tracking.tensorboard, config.trainer.threads) == (7, True, None)
        assert (config.model.lora.enabled, config.model.lora.r) == (True, 4)

    def test_the_root_key_may_lead(self, write):
        assert load_config(write("astune: {}"), ["astune.trainer.steps=7"]).trainer.steps == 7

    def test_the_last_one_holds(self, write):
        assert load_config(write("astune: {seed: 1}"), ["seed=2", "seed=3"]).seed == 3

    def test_an_equals_sign_may_stand_in_the_value(self, write):
        assert load_config(write("astune: {}"), ["model.path=a=b"]).model.path == "a=b"

    def test_the_rest_of_the_section_stays(self, write):
        config = load_config(write("astune:\n  trainer: {steps: 5, group_size: 4}\n"), ["trainer.steps=6"])
        assert (config.trainer.steps, config.trainer.group_size) == (6, 4)

    def test_a_task_file_is_chosen_with_its_type(self, write):
        overrides = ["task_reader.type=dataset_file", "astune.task_reader.dataset_file.path=../data/test.jsonl"]
        assert load_config(write(SEED_YAML), overrides).task_reader.dataset_file.path == Path("../data/test.jsonl")

    def test_one_that_would_change_nothing_is_refused(self, write):
        assert problem(write(SEED_YAML), "task_reader.dataset_file.path=x.jsonl") == (
            "command line, task_reader.dataset_file.path=x.jsonl: changes nothing while task_reader.type is "
            "huggingface_dat_repo; add task_reader.type=dataset_file"
        )

    def test_a_mistake_in_one_names_the_override_and_not_the_file(self, write):
        assert problem(write("astune:\n  trainer:\n    steps: 1\n"), "trainer.steps=x") == (
            "command line, trainer.steps=x: astune.trainer.steps should be a valid integer, got 'x'"
        )

    def test_an_unknown_key_is_answered_with_the_nearest(self, write):
        assert problem(write("astune: {}"), "trainer.stepps=1").endswith("did you mean 'steps'?")

    @pytest.mark.parametrize("text", ["trainer.steps", "=3", "trainer..steps=3"])
    def test_the_form_is_shown_when_it_is_missed(self, write, text):
        assert problem(write("astune: {}"), text) == (
            f"command line, {text}: not an override; write section.key=value, for example trainer.steps=20"
        )

    def test_a_value_that_is_no_yaml_is_refused(self, write):
        assert problem(write("astune: {}"), "model.path=[a") == (
            "command line, model.path=[a: the value is not valid YAML; put text in quotes"
        )

    def test_a_key_below_a_value_is_refused(self, write):
        assert (
            problem(write("astune: {seed: 1}"), "seed.x=1")
            == "command line, seed.x=1: 'seed' is a value, not a section"
        )
