"""The bundled checkpoint: what it is, and that it behaves as its card says."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

from astune.models.nano import NANO_PATH
from astune.models.nano.card import measured_section, with_measured
from astune.models.nano.habits import MODAL_HABIT, Habit
from astune.models.nano.measure import Player, summarise
from astune.task_reader.nano_gsm import FAMILIES, generate

BAD_HABITS = (Habit.NO_PRINT, Habit.PREMATURE, Habit.MALFORMED)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(NANO_PATH)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO_PATH)


@pytest.fixture(scope="module")
def measured():
    return json.loads((NANO_PATH / "measured.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sampled(model, tokenizer):
    return Player(model, tokenizer).play(generate(2 * len(FAMILIES), 1, "test"), 1.0, 1)


@pytest.fixture(scope="module")
def greedy(model, tokenizer):
    return Player(model, tokenizer).play(generate(len(FAMILIES), 2, "test"), 0.0, 2)


def test_transformers_loads_it_as_qwen2(model):
    assert type(model) is Qwen2ForCausalLM and model.dtype == torch.float32


def test_weights_are_at_most_ten_megabytes():
    assert sum(path.stat().st_size for path in NANO_PATH.glob("*.safetensors")) <= 10_000_000


def test_vocabulary_and_embeddings_have_one_size(model, tokenizer):
    assert len(tokenizer) == model.config.vocab_size == model.get_input_embeddings().num_embeddings


def test_generation_stops_where_turns_end(model, tokenizer):
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id, tokenizer.pad_token_id]


def test_every_parameter_is_finite(model):
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_sampled_success_leaves_something_to_learn(sampled):
    assert 0.15 < sum(play.success for play in sampled) / len(sampled) < 0.6


def test_greedy_success_leaves_something_to_learn(greedy):
    assert 0.2 < sum(play.success for play in greedy) / len(greedy) < 0.6


@pytest.mark.parametrize("habit", BAD_HABITS)
def test_sampling_shows_every_bad_habit(sampled, habit):
    assert sum(habit in play.habits for play in sampled) >= 3


@pytest.mark.parametrize("habit", BAD_HABITS)
def test_greedy_decoding_shows_every_bad_habit(greedy, habit):
    assert any(habit in play.habits for play in greedy)


def test_without_bad_habits_nearly_everything_is_solved(sampled):
    clean = [play.success for play in sampled if not play.habits]
    assert sum(clean) / len(clean) > 0.85


def test_same_seed_plays_the_same_episodes(model, tokenizer):
    problems = generate(6, 3, "test")
    first, second = (Player(model, tokenizer).play(problems, 1.0, 5) for _ in range(2))
    assert [[turn.completion_ids for turn in play.turns] for play in first] == [
        [turn.completion_ids for turn in play.turns] for play in second
    ]


@pytest.mark.parametrize("decoding", ["sampled", "greedy"])
def test_measured_start_is_under_sixty_percent(measured, decoding):
    assert measured[decoding]["all"]["success"]["ci95"][1] < 0.6


def test_measured_ability_without_bad_habits_is_high(measured):
    assert measured["sampled"]["all"]["success_without_bad_habit"]["rate"] >= 0.96


def test_card_shows_what_was_measured(measured):
    card = (NANO_PATH / "README.md").read_text(encoding="utf-8")
    assert with_measured(card, measured) == card


def test_card_has_a_row_for_every_family(measured):
    section = measured_section(measured)
    assert all(f"| {family} | {habit.value} |" in section for family, habit in MODAL_HABIT.items())


def test_a_card_without_markers_is_refused(measured):
    with pytest.raises(ValueError, match="measured: begin"):
        with_measured("# card", measured)


def test_summary_counts_success_and_habits(sampled):
    summary = summarise(sampled)
    assert summary["success"]["rate"] == pytest.approx(sum(play.success for play in sampled) / len(sampled), abs=1e-4)
