"""The refining policy: its recipe is what inference sees, and it behaves as its card says."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from random import Random

import pytest
import torch
from renderers import Qwen3Renderer
from transformers import AutoModelForCausalLM, AutoTokenizer

from astune.models.nano.measure import Player
from astune.models.nano.recipe import ChatText, tokenise
from astune.models.nano_refine import NANO_REFINE_PATH
from astune.models.nano_refine.build import SMOKE, build_model, build_tokenizer, train
from astune.models.nano_refine.card import with_measured
from astune.models.nano_refine.measure import play_chains, summarise_chains
from astune.models.nano_refine.recipe import conversations, drill_conversation, plain_conversation
from astune.models.nano_refine.refinement import FAMILIES_TO_REFINE, LARGEST_NUMBER, draw_refinement
from astune.task_reader.nano_gsm import generate


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO_REFINE_PATH)


@pytest.fixture(scope="module")
def chat(tokenizer):
    return ChatText(tokenizer)


@pytest.fixture(scope="module")
def measured():
    return json.loads((NANO_REFINE_PATH / "measured.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rates(tokenizer):
    player = Player(AutoModelForCausalLM.from_pretrained(NANO_REFINE_PATH), tokenizer)
    problems = generate(80, 3, "test", FAMILIES_TO_REFINE, LARGEST_NUMBER)
    return summarise_chains(play_chains(lambda asked: player.reply(asked, 1.0, 3), problems))


def test_conversations_render_the_same(tokenizer, chat):
    renderer = Qwen3Renderer(tokenizer)
    for seed in range(80):
        drawn = draw_refinement(Random(seed))
        prompt = tokenise(tokenizer, [plain_conversation(chat, drawn)[:-1]])[0].ids
        assert prompt == renderer.render_ids(drawn.messages, add_generation_prompt=True)


def test_turns_quoted_in_a_prompt_are_learned_as_the_policy_wrote_them(chat):
    for seed in range(80):
        drawn = draw_refinement(Random(seed))
        written = [segment.text for segment in plain_conversation(chat, drawn) if segment.sampled]
        assert written == [*drawn.quoted, drawn.reply + "<|im_end|>"]


def test_only_the_results_of_drills_are_learned(chat):
    for seed in range(20):
        learned = [segment.text for segment in drill_conversation(chat, Random(seed)) if segment.sampled]
        assert learned and all(re.fullmatch(r"\d+\.", text) for text in learned)


def test_recipe_draws_training_problems_only(chat):
    questions = {problem.question for problem in generate(300, 1, "test", FAMILIES_TO_REFINE, 60)}
    texts = ["".join(segment.text for segment in segments) for segments in conversations(chat, 300, 1)]
    assert not [text for text in texts if any(question in text for question in questions)]


def test_digits_are_tokens_of_their_own(tokenizer):
    assert tokenizer.tokenize("1024") == ["1", "0", "2", "4"]


def test_direct_answers_leave_something_to_refine(rates):
    assert 0.15 < rates["answer"]["rate"] < 0.6


def test_critiques_that_calculate_are_mostly_right(rates):
    assert rates["calculation_right"]["rate"] > 0.75


def test_some_critiques_are_careless(rates):
    assert 0.1 < rates["critique_calculates"]["rate"] < 0.7


def test_refining_repairs_some_answers_and_breaks_some(rates):
    assert rates["refined_a"]["rate"] > 0.05 and rates["refined_b"]["rate"] > 0.05


def test_card_shows_what_was_measured(measured):
    card = (NANO_REFINE_PATH / "README.md").read_text(encoding="utf-8")
    assert with_measured(card, measured) == card


@pytest.mark.slow
def test_two_workers_build_what_one_builds(tmp_path):
    few = ["--smoke", "--tokens", "3000"]  # later, the order of float sums shows
    command = [sys.executable, "-m", "astune.models.nano_refine.build", *few, "--out", str(tmp_path)]
    subprocess.run(command, check=True)
    recipe = replace(SMOKE, tokens=3000)
    tokenizer = build_tokenizer(recipe)
    alone = build_model(recipe, tokenizer)
    train(alone, tokenizer, recipe)
    together = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(together[name], tensor, atol=1e-3, rtol=0)
