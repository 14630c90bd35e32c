"""SelfRefineAgent on a fake trainer: what is refined, shown, logged and returned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from astune.errors import ConfigError
from astune.refine.log import read_log
from astune.refine.self_refine_agent import SelfRefineAgent
from astune.refine.types import Grade, SampleRequest
from tests.refine.fake_stage import FakeScriptedSampler, FakeStage, prompts_of

TEXTS = ["right 0", "bad 1", "right 2", "bad 3"]


def say(request: SampleRequest) -> str:
    if request.role == "critique":
        return "The reasoning is wrong."
    return f"right {request.row}" if request.row == 1 else f"bad again {request.row}"


@pytest.fixture
def stage() -> FakeStage:
    return FakeStage(TEXTS, say)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "self_refine_log.jsonl"


def agent_of(stage: FakeStage, log: Path, lines: list[str] | None = None, **options: Any) -> SelfRefineAgent:
    console = (lambda text: None) if lines is None else lines.append
    return SelfRefineAgent(stage.trainer, log_path=log, console=console, **options)


def test_incorrect_rows_are_refined_and_the_others_stay(stage, log):
    result = agent_of(stage, log).refine_batch(**stage.batch())
    assert result == ["right 0", "right 1", "right 2", "bad again 3"]


@pytest.mark.parametrize("form", [torch.tensor, np.array, list])
def test_the_mask_may_be_a_tensor_an_array_or_a_list(stage, log, form):
    agent = agent_of(stage, log)
    agent.refine_batch(**stage.batch() | {"correctness_mask": form([True, False, True, True])})
    assert [history.row for history in agent.histories] == [1]


def test_nan_in_the_mask_is_not_correct(stage, log):
    agent = agent_of(stage, log)
    agent.refine_batch(**stage.batch() | {"correctness_mask": torch.tensor([1.0, float("nan"), 1.0, 0.0])})
    assert [history.row for history in agent.histories] == [1, 3]


def test_all_correct_samples_nothing_and_returns_none(log):
    stage = FakeStage(["right 0", "right 1"], say)
    assert agent_of(stage, log).refine_batch(**stage.batch()) is None
    assert stage.sampler.calls == []


def test_all_correct_is_logged_for_the_log_tells_the_accuracy(log):
    stage = FakeStage(["right 0", "right 1"], say)
    agent_of(stage, log).refine_batch(**stage.batch())
    assert [row["transition"] for row in read_log(log)] == ["c→c", "c→c"]


def test_all_wrong(log):
    stage = FakeStage(["bad 0", "bad 1"], say)
    assert agent_of(stage, log).refine_batch(**stage.batch()) == ["bad again 0", "right 1"]


def test_an_empty_batch_returns_none_and_says_nothing(log):
    stage, lines = FakeStage([], say), []
    assert agent_of(stage, log, lines).refine_batch(**stage.batch()) is None
    assert (lines, log.exists()) == ([], False)


def test_no_sub_agent_sees_a_reference_answer(stage, log):
    agent_of(stage, log, max_refine_rounds=2).refine_batch(**stage.batch())
    assert not any("secret" in str(request.messages) for request in stage.sampler.requests)


def test_what_is_printed_is_one_announcement_one_report_one_line_on_the_log(stage, log):
    lines: list[str] = []
    agent_of(stage, log, lines).refine_batch(**stage.batch(), batch_counter=1)
    assert (
        "\n".join(lines)
        == """\
[Self-Refine Agent] Processing 2 incorrect samples using Self-Refine Agent (Critique + Refine)

📊 Self-Refine Agent Evaluation (Batch 1):
  Accuracy@t1: 2/4 = 50.00%
  Accuracy@t2: 3/4 = 75.00%
  Δ(batch):    +25.00% 📈

  Transitions:
    i→c:  1  |  i→i:  1
    c→c:  2  |  c→i:  0

  Example trace:
    Original: bad 1
    Critique: The reasoning is wrong.
    Refined:  right 1
    Result: ✓ Correct

  ✓ Logged 4 samples to self_refine_log.jsonl"""
    )


def test_each_round_is_appended_to_the_history(stage, log):
    agent = agent_of(stage, log, max_refine_rounds=3)
    agent.refine_batch(**stage.batch())
    assert [(done.number, list(done.rows)) for done in agent.refine_history] == [(1, [1, 3]), (2, [3]), (3, [3])]


def test_the_log_has_a_row_a_sample_with_its_rounds(stage, log):
    agent_of(stage, log, max_refine_rounds=3).refine_batch(**stage.batch(), batch_counter=5)
    rows = list(read_log(log))
    assert [(row["batch"], row["sample_idx"], len(row["refine_history"])) for row in rows] == [
        (5, 0, 0), (5, 1, 1), (5, 2, 0), (5, 3, 3),
    ]  # fmt: skip


def test_one_stage_asks_no_critic(stage, log):
    agent_of(stage, log, use_critique=False).refine_batch(**stage.batch())
    assert {request.role for request in stage.sampler.requests} == {"refine"}


def test_all_rows_can_be_refined(stage, log):
    lines: list[str] = []
    agent = agent_of(stage, log, lines, rows="all")
    assert agent.refine_batch(**stage.batch()) == ["bad again 0", "right 1", "bad again 2", "bad again 3"]
    assert "    c→c:  0  |  c→i:  2" in lines[1]


def test_a_first_answer_that_could_not_be_graded_is_refined_and_not_counted(log):
    lines: list[str] = []
    stage = FakeStage(["?", "right"], say, lambda text: Grade(None, None) if text == "?" else Grade(1.0, True))
    agent_of(stage, log, lines).refine_batch(**stage.batch())
    assert "  Accuracy@t1: 1/1 = 100.00%" in lines[1]
    assert "  Not graded:  1" in lines[1]


def test_a_critic_of_its_own_is_asked_for_critiques_alone(stage, log):
    critic = FakeScriptedSampler(lambda request: "It is wrong.")
    agent_of(stage, log, critic_sampler=critic).refine_batch(**stage.batch())
    assert {request.role for request in critic.requests} == {"critique"}
    assert {request.role for request in stage.sampler.requests} == {"refine"}


def test_prompts_of_a_folder_take_the_place_of_the_bundled_ones(stage, log, tmp_path: Path):
    (tmp_path / "critique_system.txt").write_text("Be kind.")
    agent_of(stage, log, prompts=tmp_path).refine_batch(**stage.batch())
    assert stage.sampler.requests[0].messages[0]["content"] == "Be kind."


def test_the_refiner_can_be_shown_the_feedback_alone(log):
    stage = FakeStage(["bad 0"], lambda request: "<think>6 * 4 = 24.</think>\nMultiply again.")
    agent_of(stage, log, critique_view="feedback").refine_batch(**stage.batch())
    [refine] = [request.messages[1]["content"] for request in stage.sampler.requests if request.role == "refine"]
    assert "Multiply again." in refine
    assert "24" not in refine


def test_plain_questions_are_prompts_too(stage, log):
    agent_of(stage, log).refine_batch(**stage.batch() | {"original_prompts": [f"How many {i}?" for i in range(4)]})
    assert "How many 1?" in stage.sampler.requests[0].messages[1]["content"]


def test_the_answer_agent_puts_the_question_as_it_is(stage, log):
    agent_of(stage, log).answer(prompts_of(2))
    assert [request.messages for request in stage.sampler.requests] == prompts_of(2)


def test_lists_of_different_lengths_are_refused(stage, log):
    with pytest.raises(ValueError, match="3 answers, a mask of 4"):
        agent_of(stage, log).refine_batch(**stage.batch() | {"answers": TEXTS[:3]})


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_refine_rounds": 0}, "max_refine_rounds is 0"), ({"rows": "some"}, "'wrong' or 'all'")],
)
def test_options_that_cannot_be_are_refused(stage, log, options, message):
    with pytest.raises(ConfigError, match=message):
        agent_of(stage, log, **options)


class FakeOtherProcess(FakeStage):
    """One of two processes: the other one has a wrong row and two rows of its own in the log."""

    is_main = False

    def any_process(self, flag: bool) -> bool:
        self.asked = getattr(self, "asked", 0) + 1
        return self.asked <= 2

    def merge(self, result, histories):
        return list(result)


def test_a_process_without_wrong_rows_samples_grades_and_merges_with_the_others(log):
    stage, lines = FakeOtherProcess(["right 0"], say), []
    assert agent_of(stage, log, lines).refine_batch(**stage.batch()) == ["right 0"]
    assert stage.sampler.calls == [[], []]
    assert (lines, log.exists()) == ([], False)
