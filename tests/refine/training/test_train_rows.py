"""What a step trains on after refinement: parts, weights and tokens, on episodes made by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from astune.config.refine import Refine
from astune.config.schema import Trainer
from astune.refine.training.refined_row import RefinedRow
from astune.refine.training.train_rows import needs_reference, stage_of, train_batch
from astune.trace import Episode, StopReason, Trajectory, Turn, Verdict
from astune.trainer.batch import TrainBatch
from astune.trainer.grpo import PolicyUpdater
from tests.trainer.test_grpo import model, weights


def said(
    role: str, prompt: list[int], completion: list[int], reward: float | None, error: str | None = None
) -> Episode:
    turn = Turn(prompt, completion, [-1.0] * len(completion), StopReason.EOS)
    ids, mask = prompt + completion, [0] * len(prompt) + [1] * len(completion)
    trajectory = Trajectory(ids, mask, [-1.0 if trained else 0.0 for trained in mask], [turn])
    verdict = None if reward is None else Verdict(reward, reward > 0)
    return Episode("t", 0, [] if error else [trajectory], verdict=verdict, role=role, error=error)


def row(task: int, sample: int, first: float, second: float | None = None, verdict: bool | None = False) -> RefinedRow:
    """Prompts 1 (answer), 2 (critique), 3 (refine); each sample has tokens of its own."""
    own = 10 + sample
    answer = said("answer", [1, 4 + task], [own, 20], first)
    if second is None:
        return RefinedRow(answer, task=task)
    critique = said("critique", [2, 4 + task, own], [own, 21, 22], None)
    refined = said("refine", [3, 4 + task, own], [own, 23], second)
    return RefinedRow(answer, [critique], [refined], (verdict,), task=task)


def batch_of(rows: list[RefinedRow], step: int = 0, trainer: Trainer | None = None, **settings: Any) -> TrainBatch:
    config, trainer = Refine(**settings), trainer or Trainer()
    updater = PolicyUpdater(model(), None, trainer, max_tokens=8, temperature=1.0)
    return train_batch(rows, config, stage_of(config, trainer.beta, step), updater.part)


def advantages(batch: TrainBatch) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {part.name: [] for part in batch.parts}
    for one in batch.rows:
        found[batch.parts[one.part].name].append(one.advantage)
    return found


TWO = [row(0, 0, 1.0, 1.0), row(0, 1, 0.0, 0.0)]


def test_joint_trains_answers_critiques_and_refinements_each_as_a_part() -> None:
    rows = [row(0, 0, 1.0, 0.0), row(0, 1, 0.0, 0.0)]
    assert advantages(batch_of(rows)) == {"turn_1": [1.0, -1.0], "critique_1": [-1.0, 1.0], "turn_2": []}


def test_rows_of_a_task_and_part_are_a_group() -> None:
    batch = batch_of([*TWO, row(1, 0, 1.0, 0.0), row(1, 1, 0.0, 1.0)])
    keys = {(one.part, one.trajectory.ids[1]) for one in batch.rows}
    assert len({one.group for one in batch.rows}) == len(keys) > 2


def test_a_parts_mean_is_over_all_that_is_credited() -> None:
    norms = {part.name: part.norm for part in batch_of([*TWO, row(1, 0, 1.0, 1.0), row(1, 1, 1.0)]).parts}
    assert {name: norm.sequences for name, norm in norms.items()} == {"turn_1": 4, "critique_1": 3, "turn_2": 3}
    assert norms["critique_1"].tokens == 9


def test_the_prompt_of_a_refinement_is_not_trained() -> None:
    [refined, _] = [one for one in batch_of(TWO).rows if one.trajectory.ids[0] == 3]
    assert refined.trajectory.loss_mask == [0, 0, 0, 1, 1]


def test_turn_weights_and_the_critiques_weight_multiply_advantages() -> None:
    rows = [row(0, 0, 1.0, 0.0), row(0, 1, 0.0, 1.0)]
    found = advantages(batch_of(rows, turn_weights=[0.5, 2.0], critique_weight=0.25))
    assert found == {"turn_1": [0.5, -0.5], "critique_1": [-1.0, 1.0], "turn_2": [-2.0, 2.0]}


STAGES: list[dict[str, Any]] = [
    {"start": 0, "turn_weights": [0.0, 1.0], "turn_kl": [0.5, 0.0]},
    {"start": 10, "turn_weights": [1.0]},
]


def test_a_turn_of_weight_0_is_forwarded_for_its_kl_term_alone() -> None:
    batch = batch_of(TWO, stages=STAGES)
    assert advantages(batch)["turn_1"] == [0.0, 0.0]
    assert {part.name: part.constants.beta for part in batch.parts if part.name != "critique_1"} == {
        "turn_1": 0.5,
        "turn_2": 0.0,
    }


def test_the_next_stage_takes_over_at_its_step() -> None:
    batch = batch_of(TWO, step=10, stages=STAGES)
    assert advantages(batch)["turn_1"] == [1.0, -1.0]
    assert {part.constants.beta for part in batch.parts} == {0.0}


def test_the_trainers_beta_is_every_turns_where_none_is_given() -> None:
    assert {part.constants.beta for part in batch_of(TWO, trainer=Trainer(beta=0.25)).parts} == {0.25}


@pytest.mark.parametrize(
    ("settings", "needed"), [({}, False), ({"turn_kl": [0.0, 0.1]}, True), ({"stages": STAGES}, True)]
)
def test_a_reference_is_kept_where_any_stage_asks_for_it(settings: dict[str, Any], needed: bool) -> None:
    assert needs_reference(Refine(**settings), beta=0.0) is needed


def test_replace_trains_the_refined_sample_of_wrong_rows_and_the_first_of_others() -> None:
    rows = [row(0, 0, 1.0), row(0, 1, 0.0, 1.0), row(0, 2, 0.0, 0.0)]
    assert advantages(batch_of(rows, credit="replace")) == {"turn_1": [1.0], "turn_2": [1.0, -1.0]}


def test_an_expert_stands_behind_the_prompt_of_the_first_answer() -> None:
    batch = batch_of([row(0, 0, 0.0, 1.0), row(0, 1, 1.0)], credit="expert")
    [expert] = [one for one in batch.rows if batch.parts[one.part].off_policy]
    assert (expert.trajectory.ids, expert.trajectory.loss_mask) == ([1, 4, 10, 23], [0, 0, 1, 1])
    assert expert.trajectory.logprobs == [0.0, 0.0, -1.0, -1.0]
    assert expert.advantage == 0.5


def test_a_critique_that_failed_trains_nothing() -> None:
    broken = RefinedRow(TWO[0].first, [said("critique", [2], [9], None, "too long")], TWO[0].refined, (None,))
    found = advantages(batch_of([broken, row(0, 1, 0.0, 1.0)]))
    assert len(found["critique_1"]) == 1


@pytest.mark.parametrize("settings", [{}, {"credit": "replace"}, {"credit": "expert"}])
def test_without_anything_to_learn_the_batch_is_empty(settings: dict[str, Any]) -> None:
    assert batch_of([row(0, 0, 1.0), row(0, 1, 1.0)], **settings).rows == []


@pytest.mark.parametrize("weight", ["shaped", "tis", "logp"])
def test_an_expert_becomes_likelier_behind_the_first_prompt(weight: str) -> None:
    policy = model()
    config = Refine(credit="expert", expert={"weight": weight})
    updater = PolicyUpdater(policy, None, Trainer(learning_rate=1e-2), max_tokens=8, temperature=1.0)
    rows = [row(0, 0, 0.0, 1.0), row(0, 1, 0.0)]
    batch = train_batch(rows, config, stage_of(config, 0.0, 0), updater.part)
    ids = torch.tensor([[1, 4, 10, 23]])

    def logp() -> float:
        with torch.no_grad():
            scores = policy(input_ids=ids).logits[0, 1:-1].log_softmax(-1)
        return float(scores.gather(-1, ids[0, 2:, None]).sum())

    before = logp()
    result = updater.train(batch, 0)
    assert logp() > before
    assert 0 <= result.metrics["rare_tokens/expert"] <= 1


def test_an_empty_batch_leaves_the_weights_alone() -> None:
    policy = model()
    before = weights(policy)
    updater = PolicyUpdater(policy, None, Trainer(), max_tokens=8, temperature=1.0)
    updater.train(batch_of([row(0, 0, 1.0), row(0, 1, 1.0)]), 0)
    assert torch.equal(weights(policy), before)
