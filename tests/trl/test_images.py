"""Images of a row reach critic and refiner, and stay with their row, in both layouts of pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from trl.trainer.utils import (
    shuffle_sequence_dict,
    split_pixel_values_by_grid,
    split_tensor_dict,
    unsplit_pixel_values_by_grid,
)

from astune.errors import EngineError
from astune.refine.types import SampleRequest
from astune.trl.layout import prompt_tokens, take_rows
from tests.trl.conftest import Trainers, first_batch, image_parts

LAYOUTS = ["llava", "qwen2vl"]


def merged_batch(trainer: Any) -> tuple[dict[str, Any], list[Any]]:
    merged = trainer._generate_and_score_completions(first_batch(trainer))
    histories = [history for history in trainer.refine_agent.histories if history.kept]
    assert 0 < len(histories) < 8, "the reward should call some rows wrong, not all"
    return merged, histories


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_refined_batch_trains(image_trainer: Trainers, layout: str) -> None:
    trainer = image_trainer(layout, max_refine_rounds=2)
    before = {name: value.clone() for name, value in trainer.model.named_parameters() if "vis" in name}
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert all(torch.isfinite(torch.tensor(losses)))
    moved = [not torch.equal(value, dict(trainer.model.named_parameters())[name]) for name, value in before.items()]
    assert any(moved)  # gradients reach the vision tower


@pytest.mark.parametrize("layout", LAYOUTS)
def test_prompts_of_critic_and_refiner_hold_the_images_tokens(image_trainer: Trainers, layout: str) -> None:
    trainer = image_trainer(layout)
    _, histories = merged_batch(trainer)
    token = trainer.model.config.image_token_id
    for history in histories:
        wanted = history.first.sample.prompt_ids.count(token)
        assert wanted > 0
        assert history.rounds[0].critique.prompt_ids.count(token) == wanted
        assert history.final.sample.prompt_ids.count(token) == wanted


@pytest.mark.parametrize("layout", LAYOUTS)
def test_log_probs_of_a_refined_row_are_those_under_its_own_image(image_trainer: Trainers, layout: str) -> None:
    trainer = image_trainer(layout)
    merged, histories = merged_batch(trainer)
    for history in histories:
        row, sample = history.row, history.final.sample
        alone = take_rows(merged, [row])
        ids = torch.tensor([sample.prompt_ids + sample.completion_ids])
        fields = {key: alone[key] for key in ("pixel_values", "image_grid_thw") if key in alone}
        if "mm_token_type_ids" in merged:
            kept = torch.cat([alone["prompt_mask"], alone["completion_mask"]], dim=1).bool()
            fields["mm_token_type_ids"] = alone["mm_token_type_ids"][kept].unsqueeze(0)
        with torch.no_grad():
            logits = trainer.model(input_ids=ids, **fields).logits[0, len(sample.prompt_ids) - 1 : -1]
        by_hand = torch.log_softmax(logits, dim=-1)[range(len(sample.completion_ids)), sample.completion_ids]
        found = merged["old_per_token_logps"][row, : len(sample.completion_ids)]
        assert torch.allclose(found, by_hand, atol=1e-4)


def test_type_ids_mark_the_image_tokens_of_refined_prompts(image_trainer: Trainers) -> None:
    trainer = image_trainer("qwen2vl")
    merged, _ = merged_batch(trainer)
    ids = torch.cat([merged["prompt_ids"], merged["completion_ids"]], dim=1)
    assert torch.equal(merged["mm_token_type_ids"], (ids == trainer.model.config.image_token_id).long())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_keep_their_images_through_trls_shuffle_and_split(image_trainer: Trainers, layout: str) -> None:
    trainer = image_trainer(layout)
    merged, _ = merged_batch(trainer)
    prompts = [prompt_tokens(merged, row) for row in range(8)]
    pixels = [take_rows(merged, [row])["pixel_values"] for row in range(8)]
    numbered = {**merged, "advantages": torch.arange(8.0)}

    parts = split_tensor_dict(shuffle_sequence_dict(split_pixel_values_by_grid(numbered)), 2)

    for part in map(unsplit_pixel_values_by_grid, parts):
        for position, row in enumerate(part["advantages"].int().tolist()):
            alone = take_rows(part, [position])
            assert prompt_tokens(alone, 0) == prompts[row]
            assert torch.equal(alone["pixel_values"], pixels[row])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_the_critic_says_depends_on_the_image(image_trainer: Trainers, layout: str) -> None:
    """With the same ids and another picture, the distribution over the critique's first token changes."""
    trainer = image_trainer(layout)
    merged, histories = merged_batch(trainer)
    history = histories[0]
    fields = take_rows(merged, [history.row])
    prompt = history.rounds[0].critique.prompt_ids
    inputs = {key: fields[key] for key in ("pixel_values", "image_grid_thw") if key in fields}
    if "mm_token_type_ids" in merged:
        image_token = trainer.model.config.image_token_id
        inputs["mm_token_type_ids"] = torch.tensor([[int(token == image_token) for token in prompt]])
    other = {**inputs, "pixel_values": -inputs["pixel_values"]}
    with torch.no_grad():
        said, otherwise = (
            trainer.model(input_ids=torch.tensor([prompt]), **seen).logits[0, -1] for seen in (inputs, other)
        )
    assert not torch.allclose(said, otherwise, atol=1e-4)


def test_a_request_without_images_is_shown_its_rows(image_trainer: Trainers) -> None:
    trainer = image_trainer("llava")
    trainer._generate_and_score_completions(first_batch(trainer))
    request = SampleRequest("critique", [{"role": "user", "content": "Is it right?"}], row=1, round=1)
    sample = trainer.refine_stage.sampler.sample([request])[0]
    assert trainer.model.config.image_token_id in sample.prompt_ids


def test_a_request_with_other_images_is_refused(image_trainer: Trainers) -> None:
    trainer = image_trainer("llava")
    batch = first_batch(trainer)
    trainer._generate_and_score_completions(batch)
    parts = [{"type": "image", "image": batch[0]["image"]}] * 2
    request = SampleRequest("critique", [{"role": "user", "content": parts}], row=1, round=1)
    with pytest.raises(EngineError, match="row 1 shows 2 images, and its row has 1"):
        trainer.refine_stage.sampler.sample([request])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_attempt_that_spells_the_image_token_claims_no_image(image_trainer: Trainers, layout: str) -> None:
    trainer = image_trainer(layout)
    trainer._generate_and_score_completions(first_batch(trainer))
    _, processor = image_parts(layout)
    messages = [{"role": "user", "content": f"I see {processor.image_token}{processor.image_token}."}]
    sample = trainer.refine_stage.sampler.sample([SampleRequest("refine", messages, row=0, round=1)])[0]
    first = trainer.refine_stage.first[0].sample.prompt_ids
    token = trainer.model.config.image_token_id
    assert sample.prompt_ids.count(token) == first.count(token)
