"""SelfRefineAgent with the bundled policy, the engine sampler and the judge's own comparison of answers."""

from __future__ import annotations

import pytest

from astune.models.load import load_policy
from astune.models.nano import NANO_PATH
from astune.refine.samplers import EngineSampler
from astune.refine.self_refine_agent import SelfRefineAgent
from astune.refine.sub_agents import CUT_NOTE
from astune.refine.types import Grade, Sample
from astune.rollout.chat import pick_renderer
from astune.rollout.engine import LocalEngine
from astune.rollout.types import Sampling
from astune.task_judge.math_answer_as_judge import answers_match
from tests.refine.fake_stage import FakeScriptedSampler, FakeStage

pytestmark = pytest.mark.skipif(
    not (NANO_PATH / "model.safetensors").exists(), reason="no bundled weights: python -m astune.models.nano.build"
)

QUESTION = "Tom has 6 boxes with 4 pens each. How many pens does he have?"
ANSWERS = ["The answer is \\boxed{24}.", "The answer is \\boxed{23}.", "The answer is \\boxed{10}."]


def grade(text: str) -> Grade:
    correct = answers_match(text, "24")
    return Grade(None if correct is None else float(correct), correct)


@pytest.fixture(scope="module")
def sampler() -> EngineSampler:
    model, tokenizer = load_policy("nano")
    return EngineSampler(LocalEngine(model), pick_renderer(tokenizer), Sampling(max_tokens=96, seed=1))


def refined(agent: SelfRefineAgent, stage: FakeStage) -> list[Sample]:
    """Refines one batch, and returns the refined samples of its two wrong rows."""
    batch = stage.batch() | {"original_prompts": [QUESTION] * len(ANSWERS)}
    agent.refine_batch(**batch)
    assert [history.row for history in agent.histories] == [1, 2]
    made = [history.rounds[0].refined for history in agent.histories]
    return [one.sample for one in made if one is not None]


def test_wrong_rows_are_criticised_and_answered_again_with_ids_to_train_on(sampler: EngineSampler):
    stage = FakeStage(ANSWERS, str, grade)
    agent = SelfRefineAgent(stage.trainer, sampler=sampler, log_path=None, console=lambda _: None)
    for sample, history in zip(refined(agent, stage), agent.histories, strict=True):
        assert sample.logprobs is not None
        assert len(sample.logprobs) == len(sample.completion_ids) > 0
        prompt = sampler.renderer.decode(sample.prompt_ids)
        assert QUESTION in prompt
        assert (history.rounds[0].shown or "There may be an error") in prompt


def test_a_critique_longer_than_the_context_is_cut_so_that_the_refined_answer_can_be_sampled(sampler: EngineSampler):
    stage = FakeStage(ANSWERS, str, grade)
    critic = FakeScriptedSampler(lambda request: "Again and again. " * 2000 + "Multiply 6 by 4.")
    agent = SelfRefineAgent(
        stage.trainer, sampler=sampler, critic_sampler=critic, log_path=None, console=lambda _: None
    )
    for sample, history in zip(refined(agent, stage), agent.histories, strict=True):
        shown = history.rounds[0].shown or ""
        assert shown.startswith(CUT_NOTE)
        assert shown.endswith("Multiply 6 by 4.")
        assert sample.error is None
        assert len(sample.prompt_ids) <= sampler.engine.max_context - sampler.sampling.max_tokens


def test_an_answer_that_leaves_no_room_ends_its_row_and_no_other(sampler: EngineSampler):
    stage = FakeStage([ANSWERS[0], ANSWERS[1], "pens " * 4000], str, grade)
    agent = SelfRefineAgent(stage.trainer, sampler=sampler, log_path=None, console=lambda _: None)
    [sample] = refined(agent, stage)
    assert [history.stopped == "failed" for history in agent.histories] == [False, True]
    assert sample.error is None
