"""The trainer against TRL's own, on the bundled model: what is the same, and what refinement changes by how much."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOTrainer as TrlTrainer

from astune.errors import ConfigError
from astune.trl.layout import completion_tokens, prompt_tokens
from tests.trl.conftest import Trainers, even_length, first_batch


def always(value: float | None) -> Any:
    def constant(completions: list[Any], **_: Any) -> list[float | None]:
        return [value] * len(completions)

    return constant


def recorded(trainer: Any) -> list[dict[str, Any]]:
    """What the trainer's agent is called with from now on."""
    calls: list[dict[str, Any]] = []
    refine = trainer.refine_agent.refine_batch

    def noted(**arguments: Any) -> Any:
        calls.append(arguments)
        return refine(**arguments)

    trainer.refine_agent.refine_batch = noted
    return calls


def without_times(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if "time" not in k and "per_second" not in k} for row in log]


def test_without_self_refine_it_is_trls_trainer_bit_for_bit(text_trainer: Trainers) -> None:
    ours = text_trainer(enable_self_refine=False)
    theirs = text_trainer(TrlOptionsDropped)
    for trainer in (ours, theirs):
        torch.manual_seed(5)
        trainer.train()
    assert without_times(ours.state.log_history) == without_times(theirs.state.log_history)
    pairs = zip(ours.model.state_dict().items(), theirs.model.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(a, b) for (name, a), (other, b) in pairs)


class TrlOptionsDropped(TrlTrainer):
    def __init__(self, *args: Any, enable_self_refine: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


def test_where_nothing_is_wrong_the_batch_is_trls(text_trainer: Trainers) -> None:
    ours = text_trainer(reward_funcs=always(1.0))
    theirs = text_trainer(TrlOptionsDropped, reward_funcs=always(1.0))
    results = []
    for trainer in (ours, theirs):
        batch = first_batch(trainer)
        torch.manual_seed(5)
        results.append(trainer._generate_and_score_completions(batch))
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])


def test_the_agent_is_called_once_a_generation_batch_in_training_and_evaluation(text_trainer: Trainers) -> None:
    from tests.trl.conftest import text_rows

    trainer = text_trainer(args={"eval_strategy": "steps", "eval_steps": 2}, eval_dataset=dataset(text_rows(2)))
    calls = recorded(trainer)
    trainer.train()
    assert [call["batch_counter"] for call in calls] == [1, 2]  # one training batch for two steps, one of evaluation
    assert set(calls[0]) == {
        "inputs",
        "original_result",
        "original_prompts",
        "answers",
        "solutions",
        "correctness_mask",
        "batch_counter",
    }
    assert calls[0]["solutions"] == [row["solution"] for row in calls[0]["inputs"]]
    assert any("eval_refine/accuracy_t2" in row for row in trainer.state.log_history)


def dataset(rows: list[dict[str, Any]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(rows)


def test_correctness_is_what_the_first_reward_function_says(text_trainer: Trainers) -> None:
    trainer = text_trainer(reward_funcs=[even_length, always(1.0)])
    calls = recorded(trainer)
    trainer._generate_and_score_completions(first_batch(trainer))
    expected = [len(answer) % 2 == 0 for answer in calls[0]["answers"]]
    assert calls[0]["correctness_mask"].tolist() == expected


def test_another_reward_function_may_decide(text_trainer: Trainers) -> None:
    def graded(completions: list[Any], **_: Any) -> list[float]:
        return [0.7] * len(completions)

    low = text_trainer(reward_funcs=[even_length, graded], correctness_reward="graded")
    high = text_trainer(reward_funcs=[even_length, graded], correctness_reward="graded", correctness_threshold=0.8)
    masks = []
    for trainer in (low, high):
        calls = recorded(trainer)
        trainer._generate_and_score_completions(first_batch(trainer))
        masks.append(calls[0]["correctness_mask"])
    assert masks[0].all()
    assert not masks[1].any()


@pytest.mark.parametrize("use_critique", [True, False])
def test_refined_rows_are_those_that_a_hand_would_have_made(text_trainer: Trainers, use_critique: bool) -> None:
    trainer = text_trainer(use_critique=use_critique, args={"beta": 0.1})
    calls = recorded(trainer)
    merged = trainer._generate_and_score_completions(first_batch(trainer))
    original = calls[0]["original_result"]
    histories = {history.row: history for history in trainer.refine_agent.histories}
    assert 0 < len(histories) < 8, "the reward should call some rows wrong, not all"

    for row in range(8):
        if row in histories:
            sample = histories[row].final.sample
            assert prompt_tokens(merged, row) == sample.prompt_ids
            assert completion_tokens(merged, row) == sample.completion_ids
            by_hand = log_probs(trainer.model, sample.prompt_ids, sample.completion_ids)
            length = len(sample.completion_ids)
            assert torch.allclose(merged["old_per_token_logps"][row, :length], by_hand, atol=1e-4)
            assert torch.allclose(merged["ref_per_token_logps"][row, :length], by_hand, atol=1e-4)  # before any step
        else:
            assert prompt_tokens(merged, row) == prompt_tokens(original, row)
            assert completion_tokens(merged, row) == completion_tokens(original, row)
            length = len(completion_tokens(merged, row))
            for key in ("old_per_token_logps", "ref_per_token_logps"):
                assert torch.equal(merged[key][row, :length], original[key][row, :length])
    assert merged["num_items_in_batch"] == merged["completion_mask"].sum()


def test_reference_log_probs_of_an_adapter_are_the_base_models(text_trainer: Trainers) -> None:
    from peft import LoraConfig

    trainer = text_trainer(peft_config=LoraConfig(r=2, target_modules=["q_proj"]), args={"beta": 0.1})
    for name, value in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value)  # an adapter that has learnt something
    merged = trainer._generate_and_score_completions(first_batch(trainer))
    history = next(history for history in trainer.refine_agent.histories if history.kept)
    sample, row = history.final.sample, history.row
    with trainer.model.disable_adapter():
        by_hand = log_probs(trainer.model, sample.prompt_ids, sample.completion_ids)
    length = len(sample.completion_ids)
    assert torch.allclose(merged["ref_per_token_logps"][row, :length], by_hand, atol=1e-4)
    assert not torch.allclose(merged["old_per_token_logps"][row, :length], by_hand, atol=1e-2)


def log_probs(model: Any, prompt: list[int], completion: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits, dim=-1)[range(len(completion)), completion]


def test_advantages_compare_attempts_of_one_turn(text_trainer: Trainers) -> None:
    trainer = text_trainer(args={"scale_rewards": "none"})
    calls = recorded(trainer)
    merged = trainer._generate_and_score_completions(first_batch(trainer))
    first = [float(len(answer) % 2 == 0) for answer in calls[0]["answers"]]
    second = {history.row: history.final.grade.reward for history in trainer.refine_agent.histories}
    assert second
    for row in range(8):
        task = list(range(row // 4 * 4, row // 4 * 4 + 4))
        refined = [other for other in task if other in second]
        if not refined:
            expected = first[row] - sum(first[other] for other in task) / 4  # TRL's own
        elif row not in second:
            expected = first[row] - sum(first[other] for other in task if other != row) / 3
        elif len(refined) == 1:
            expected = second[row] - first[row]
        else:
            others = [second[other] for other in refined if other != row]
            expected = second[row] - sum(others) / len(others)
        assert merged["advantages"][row].item() == pytest.approx(expected)


def test_only_rows_that_are_refined_are_generated(text_trainer: Trainers) -> None:
    trainer = text_trainer()
    sizes: list[int] = []
    generate = trainer._generate_single_turn

    def counted(prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(prompt_ids))
        return generate(prompt_ids, *args, **kwargs)

    trainer._generate_single_turn = counted
    trainer._generate_and_score_completions(first_batch(trainer))
    refined = len(trainer.refine_agent.histories)
    assert 0 < refined < 8
    assert sizes == [8, refined, refined]


def test_refined_attempts_are_graded_with_the_prompt_and_columns_of_their_row(text_trainer: Trainers) -> None:
    seen: list[dict[str, Any]] = []

    def watching(prompts: Any, completions: Any, solution: Any, completion_ids: Any, **_: Any) -> list[float]:
        seen.append({"prompts": prompts, "solution": solution, "ids": completion_ids})
        return even_length(completions)

    trainer = text_trainer(reward_funcs=watching)
    batch = first_batch(trainer)
    trainer._generate_and_score_completions(batch)
    histories = trainer.refine_agent.histories
    assert seen[1]["prompts"] == [batch[history.row]["prompt"] for history in histories]
    assert seen[1]["solution"] == [batch[history.row]["solution"] for history in histories]
    assert seen[1]["ids"] == [history.final.sample.completion_ids for history in histories]


def test_what_reward_functions_log_of_refined_attempts_stays_out_of_trls_columns(text_trainer: Trainers) -> None:
    def logging(completions: list[Any], log_extra: Any, log_metric: Any, **_: Any) -> list[float]:
        log_extra("length", [len(completion[-1]["content"]) for completion in completions])
        log_metric("seen", float(len(completions)))
        return even_length(completions)

    trainer = text_trainer(reward_funcs=logging)
    for _ in range(2):
        trainer._generate_and_score_completions(first_batch(trainer))
    assert len(trainer._logs["extra"]["length"]) == len(trainer._logs["prompt"])
    assert trainer._metrics["train"]["seen"] == [8.0, 8.0]


def test_a_reward_of_nan_trains_nothing(text_trainer: Trainers) -> None:
    trainer = text_trainer(reward_funcs=always(None))
    merged = trainer._generate_and_score_completions(first_batch(trainer))
    assert merged["advantages"].tolist() == [0.0] * 8
    assert math.isnan(trainer._metrics["train"]["refine/accuracy_t1"][-1])


def test_refined_attempts_that_cannot_be_graded_train_nothing(text_trainer: Trainers) -> None:
    calls = 0

    def once(completions: list[Any], **_: Any) -> list[float | None]:
        nonlocal calls
        calls += 1
        return [0.0 if calls == 1 else math.nan] * len(completions)

    trainer = text_trainer(reward_funcs=once)
    merged = trainer._generate_and_score_completions(first_batch(trainer))
    assert merged["advantages"].tolist() == [0.0] * 8
    assert torch.isfinite(merged["old_per_token_logps"]).all()


def test_every_wrong_row_may_be_replaced(text_trainer: Trainers) -> None:
    trainer = text_trainer(reward_funcs=always(0.0), max_refine_rounds=2)
    merged = trainer._generate_and_score_completions(first_batch(trainer))
    assert [len(history.rounds) for history in trainer.refine_agent.histories] == [2] * 8
    assert merged["prompt_ids"].size(0) == 8


def test_a_truncated_attempt_is_masked_where_trl_masks_them(text_trainer: Trainers) -> None:
    trainer = text_trainer(
        reward_funcs=always(0.0), args={"mask_truncated_completions": True, "max_completion_length": 6}
    )
    merged = trainer._generate_and_score_completions(first_batch(trainer))
    for history in trainer.refine_agent.histories:
        sample = history.final.sample
        assert merged["completion_mask"][history.row].sum() == (0 if sample.truncated else len(sample.completion_ids))


@pytest.mark.parametrize("loss_type", [pytest.param("grpo", marks=pytest.mark.slow), "dapo"])
def test_minibatches_of_a_refined_batch_give_a_finite_loss(text_trainer: Trainers, loss_type: str) -> None:
    trainer = text_trainer(args={"loss_type": loss_type, "beta": 0.05, "pad_to_multiple_of": 8})
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)


def test_log_and_report_are_written(text_trainer: Trainers, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = text_trainer()
    trainer._generate_and_score_completions(first_batch(trainer))
    rows = [json.loads(line) for line in (tmp_path / "self_refine_log.jsonl").read_text().splitlines()]
    assert [row["sample_idx"] for row in rows] == list(range(8))
    assert "📊 Self-Refine Agent Evaluation (Batch 1):" in capsys.readouterr().out


def test_unknown_reward_names_are_refused(text_trainer: Trainers) -> None:
    with pytest.raises(ConfigError, match="no reward function 'exact'; there are even_length"):
        text_trainer(correctness_reward="exact")


def test_zero_rounds_are_refused(text_trainer: Trainers) -> None:
    with pytest.raises(ConfigError, match="max_refine_rounds is 0"):
        text_trainer(max_refine_rounds=0)


def test_a_tokenizer_without_a_chat_template_is_refused(text_trainer: Trainers) -> None:
    from tests.trl.conftest import nano

    parts = nano()
    parts["processing_class"].chat_template = None
    with pytest.raises(ConfigError, match="chat template"):
        text_trainer(**parts)
