"""The evaluator against plain transformers, and what each kind of failure becomes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from inspect_ai.log import read_eval_log
from safetensors.torch import load_file, save_file

from astune.errors import ConfigError, SandboxError
from astune.models.load import load_policy
from astune.models.nano import NANO_PATH
from astune.models.nano_refine import NANO_REFINE_PATH
from astune.task_reader.nano_gsm import read_nano_gsm
from astune.workflow.astune_proxy import AstuneProxy
from astune.workflow.types import WorkflowOutput, WorkflowTask
from autorl_bench.evaluator import evaluate
from autorl_bench.policy import EvaluationFailure, InvalidModel
from autorl_bench.scenarios.checkers.math_answer import MathAnswer
from autorl_bench.scenarios.schema import Episode, Generation
from autorl_bench.types import Evaluation, Item

N = 24
MAX_TOKENS = 120
FAMILIES = ["running_week", "bus_stops", "egg_sales", "profit"]
PLAIN_AGENT = "tutorial.example_math_agent.math_agent_plain->PlainMathLearn"


def nano_items(n: int) -> list[Item]:
    tasks = read_nano_gsm(n, 7, "test", FAMILIES, largest=40)
    return [Item(task.task_id, task.init_messages, str(task.answer)) for task in tasks]


ITEMS = nano_items(N)


def run(tmp_path: Path, model: Path = NANO_REFINE_PATH, **changes: object) -> Evaluation:
    arguments = {
        "base_folder": NANO_REFINE_PATH,
        "items": ITEMS,
        "checker": MathAnswer(),
        "generation": Generation(max_tokens=MAX_TOKENS),
        "log_dir": tmp_path / "logs",
    }
    return evaluate(model, **(arguments | changes))  # type: ignore[arg-type]


def copy_of(folder: Path, target: Path) -> Path:
    target.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(folder / name, target / name)
    return target


def with_tensor(folder: Path, name: str, change: object) -> Path:
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = change(tensors[name]) if callable(change) else change
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return run(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def by_transformers() -> list[str]:
    """Each item alone: no padding, no batch, no cache of ours; greedy whatever generation_config.json says."""
    model, tokenizer = load_policy(NANO_REFINE_PATH)
    texts = []
    for item in ITEMS:
        prompt = tokenizer.apply_chat_template(item.messages, add_generation_prompt=True, return_tensors="pt")
        ids = prompt["input_ids"]
        with torch.inference_mode():
            out = model.generate(**prompt, do_sample=False, max_new_tokens=MAX_TOKENS)
        texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


def test_completions_are_those_of_plain_greedy_decoding(evaluation: Evaluation, by_transformers: list[str]) -> None:
    assert [result.completion for result in evaluation.results] == by_transformers


async def test_score_is_that_of_plain_greedy_decoding(evaluation: Evaluation, by_transformers: list[str]) -> None:
    checker = MathAnswer()
    right = [await checker.grade(item, text) for item, text in zip(ITEMS, by_transformers, strict=True)]
    assert evaluation.accuracy == 100 * sum(verdict is True for verdict in right) / N
    assert 0 < evaluation.accuracy < 100


def test_a_second_evaluation_gives_equal_results(evaluation: Evaluation, tmp_path: Path) -> None:
    assert run(tmp_path).results == evaluation.results


def test_the_order_of_the_items_changes_no_result(evaluation: Evaluation, tmp_path: Path) -> None:
    assert run(tmp_path, items=ITEMS[::-1]).results == evaluation.results[::-1]


def test_the_log_opens_in_inspect_and_holds_every_result(evaluation: Evaluation) -> None:
    log = read_eval_log(str(evaluation.log_path))
    assert log.status == "success"
    assert log.samples is not None
    logged = {sample.id: (sample.output.completion, sample.scores["checker"].value) for sample in log.samples}  # type: ignore[index]
    expected = {r.item_id: (r.completion, "C" if r.correct else "I") for r in evaluation.results}
    assert logged == expected


def test_the_log_says_that_decoding_was_greedy(evaluation: Evaluation) -> None:
    log = read_eval_log(str(evaluation.log_path), header_only=True)
    assert log.plan.config.temperature == 0.0


def test_the_log_folder_holds_nothing_but_whole_logs(evaluation: Evaluation) -> None:
    assert evaluation.log_path is not None
    assert list(evaluation.log_path.parent.iterdir()) == [evaluation.log_path]


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, items=ITEMS[:2])
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_cut_completion_is_counted_and_says_so_in_the_log(tmp_path: Path) -> None:
    short = run(tmp_path, items=ITEMS[:4], generation=Generation(max_tokens=3))
    assert [(result.tokens, result.truncated) for result in short.results] == [(3, True)] * 4
    assert short.n_truncated == 4
    log = read_eval_log(str(short.log_path))
    assert [sample.output.stop_reason for sample in log.samples or ()] == ["max_tokens"] * 4


def test_a_prompt_that_fills_the_context_is_unsolved_and_counted_as_cut(tmp_path: Path) -> None:
    long = Item("long", [{"role": "user", "content": "eggs " * 40}], "1")
    narrow = run(tmp_path, items=[long], generation=Generation(max_tokens=8, max_context=32))
    assert [(r.completion, r.correct, r.truncated) for r in narrow.results] == [("", False, True)]


def test_a_system_message_reaches_the_model(tmp_path: Path, evaluation: Evaluation) -> None:
    told = [
        Item(item.id, [{"role": "system", "content": "Answer in one word."}, *item.messages], item.target)
        for item in ITEMS[:8]
    ]
    texts = [result.completion for result in run(tmp_path, items=told).results]
    assert texts != [result.completion for result in evaluation.results[:8]]


def test_submitted_settings_change_nothing(evaluation: Evaluation, tmp_path: Path) -> None:
    model = copy_of(NANO_REFINE_PATH, tmp_path / "model")
    (model / "chat_template.jinja").write_text("The answer is \\boxed{42}.")
    (model / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "temperature": 5.0, "eos_token_id": 5})
    )
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"rope_parameters": {"rope_theta": 10.0}}))
    (model / "tokenizer.json").write_text("{}")
    assert run(tmp_path, model).results == evaluation.results


def test_weights_are_the_submissions(evaluation: Evaluation, tmp_path: Path) -> None:
    model = copy_of(NANO_REFINE_PATH, tmp_path / "model")
    with_tensor(model, "model.norm.weight", torch.zeros_like)
    assert run(tmp_path, model).n_correct == 0 < evaluation.n_correct


def test_sharded_weights_are_read(evaluation: Evaluation, tmp_path: Path) -> None:
    load_policy(NANO_REFINE_PATH)[0].save_pretrained(tmp_path / "model", max_shard_size="2MB")
    assert not (tmp_path / "model" / "model.safetensors").exists()
    assert run(tmp_path, tmp_path / "model").results == evaluation.results


def damaged(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"not weights")


def lacks_a_tensor(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


def other_shape(model: Path) -> None:
    with_tensor(model, "model.norm.weight", torch.ones(7))


def without_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def index_leads_outside(model: Path) -> None:
    (model / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": str(NANO_REFINE_PATH / "model.safetensors")}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def not_finite(model: Path) -> None:
    with_tensor(model, "model.norm.weight", lambda tensor: tensor * float("nan"))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (damaged, "cannot_be_loaded"),
        (lacks_a_tensor, "cannot_be_loaded"),
        (other_shape, "cannot_be_loaded"),
        (index_leads_outside, "cannot_be_loaded"),
        (without_weights, "no_weights"),
        (not_finite, "not_finite"),
    ],
)
def test_a_model_that_cannot_run_is_invalid(spoil: object, code: str, tmp_path: Path) -> None:
    model = copy_of(NANO_REFINE_PATH, tmp_path / "model")
    spoil(model)  # type: ignore[operator]
    with pytest.raises(InvalidModel) as caught:
        run(tmp_path, model, items=ITEMS[:2])
    assert caught.value.reason.code == code


def test_a_message_names_the_submitted_folder(tmp_path: Path) -> None:
    model = copy_of(NANO_REFINE_PATH, tmp_path / "model")
    damaged(model)
    with pytest.raises(InvalidModel, match=str(model)):
        run(tmp_path, model)


class Broken:
    """A checker whose sandbox is gone, or which has a mistake, from the third item on."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    async def grade(self, item: Item, completion: str) -> bool | None:
        self.asked += 1
        if self.asked > 2:
            raise self.error
        return True


@pytest.mark.parametrize(
    ("error", "code"), [(SandboxError("no confinement"), "sandbox"), (ZeroDivisionError("oops"), "checker")]
)
def test_a_checker_that_fails_is_our_failure_and_leaves_no_log(error: Exception, code: str, tmp_path: Path) -> None:
    with pytest.raises(EvaluationFailure) as caught:
        run(tmp_path, checker=Broken(error))
    assert caught.value.reason.code == code
    assert caught.value.__cause__ is error
    assert list((tmp_path / "logs").iterdir()) == []


def test_an_evaluation_that_failed_can_be_started_again(evaluation: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(EvaluationFailure):
        run(tmp_path, checker=Broken(SandboxError("no confinement")))
    assert run(tmp_path).results == evaluation.results


def test_a_base_model_that_is_not_there_is_our_failure(tmp_path: Path) -> None:
    with pytest.raises(EvaluationFailure) as caught:
        run(tmp_path, base_folder=tmp_path / "nowhere")
    assert caught.value.reason.code == "base_model"


def test_a_damaged_base_model_is_our_failure(tmp_path: Path) -> None:
    base = copy_of(NANO_REFINE_PATH, tmp_path / "base")
    (base / "tokenizer.json").write_text("{}")
    with pytest.raises(EvaluationFailure) as caught:
        run(tmp_path, base_folder=base)
    assert caught.value.reason.code == "base_model"


def test_a_log_folder_that_cannot_be_made_is_our_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationFailure) as caught:
        run(tmp_path, log_dir=tmp_path / "file" / "logs")
    assert caught.value.reason.code == "log_folder"


class Undecided:
    """A checker that can tell nothing."""

    async def grade(self, item: Item, completion: str) -> bool | None:
        return None


def test_what_cannot_be_graded_is_counted_and_shown(tmp_path: Path) -> None:
    unread = run(tmp_path, checker=Undecided(), items=ITEMS[:2])
    assert (unread.n_ungradable, unread.accuracy) == (2, 0.0)
    log = read_eval_log(str(unread.log_path))
    assert [sample.scores["checker"].value for sample in log.samples or ()] == ["N", "N"]  # type: ignore[index]


@pytest.mark.parametrize("items", [[], [ITEMS[0], ITEMS[0]]], ids=["none", "twice the same"])
def test_items_need_distinct_ids(items: list[Item], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="distinct ids"):
        run(tmp_path, items=items)


AGENT_ITEMS = ITEMS[:12]
AGENT = {
    "model": NANO_PATH,
    "base_folder": NANO_PATH,
    "items": AGENT_ITEMS,
    "episode": Episode(kind="workflow", workflow=PLAIN_AGENT, max_turns=6),
}


@pytest.fixture(scope="module")
def agent_evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return run(tmp_path_factory.mktemp("agent"), **AGENT)  # type: ignore[arg-type]


def test_a_tool_agent_is_graded_on_its_final_answer(agent_evaluation: Evaluation) -> None:
    assert 0 < agent_evaluation.accuracy < 100
    assert all("\\boxed" in result.completion for result in agent_evaluation.results if result.correct)


def test_a_tool_agents_second_evaluation_gives_equal_results(agent_evaluation: Evaluation, tmp_path: Path) -> None:
    assert run(tmp_path, **AGENT).results == agent_evaluation.results  # type: ignore[arg-type]


def test_the_log_shows_what_a_tool_agents_tools_answered(agent_evaluation: Evaluation) -> None:
    log = read_eval_log(str(agent_evaluation.log_path))
    outputs = [m.text for sample in log.samples or () for m in sample.messages if m.role == "tool"]
    assert outputs
    assert all(output.startswith("<returncode>") for output in outputs)


class Raises:
    """A workflow with a mistake."""

    async def execute(self, workflow_task: object, astune_proxy: object) -> None:
        raise KeyError("mistake")


def test_a_workflow_that_raises_is_our_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorl_bench.inspect_workflow.resolve_workflow", lambda path: Raises)
    with pytest.raises(EvaluationFailure) as caught:
        run(tmp_path, **AGENT)  # type: ignore[arg-type]
    assert caught.value.reason.code == "workflow_error"


def test_an_unknown_workflow_is_named(tmp_path: Path) -> None:
    nowhere = Episode(kind="workflow", workflow="nowhere->Nothing")
    with pytest.raises(ConfigError, match="nowhere"):
        run(tmp_path, **(AGENT | {"episode": nowhere}))  # type: ignore[arg-type]


class Looks:
    """A workflow that answers with all that it knows of its task."""

    async def execute(self, workflow_task: WorkflowTask, astune_proxy: AstuneProxy) -> WorkflowOutput:
        astune_proxy.update_judge_input_dictionary(final_answer=repr(workflow_task))
        return WorkflowOutput()


def test_a_workflow_is_never_shown_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorl_bench.inspect_workflow.resolve_workflow", lambda path: Looks)
    secret = Item("item", [{"role": "user", "content": "How many?"}], "TARGET", {"solution": "TARGET"})
    [result] = run(tmp_path, **(AGENT | {"items": [secret]})).results  # type: ignore[arg-type]
    assert "How many?" in result.completion
    assert "TARGET" not in result.completion
