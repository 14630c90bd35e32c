"""The vision-language tutorial: pictures, tiny models in both pixel layouts, and GRPO with refinement on them."""

from __future__ import annotations

import copy
import json
import math
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from astune.errors import ModelError, TaskError
from astune.refine.prompts import Prompts, bundled_prompts
from astune.refine.verdict import read_verdict
from tutorial.example_self_refine_vlm import grpo_vlm, shapes, teacher, tiny_vlm, train_tiny
from tutorial.example_self_refine_vlm.tiny_vlm import LAYOUTS, Layout

Parts = tuple[Any, Any]
#: Enough to learn colours.
STEPS = 100
FOLDER = Path(grpo_vlm.__file__).parent


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Layout:
    return request.param


@pytest.fixture(scope="module")
def barely_trained(layout: Layout) -> Parts:
    """The layout's model after a few steps: it has the right form, and no knowledge."""
    return train_tiny.train(layout, train_tiny.Recipe(steps=2, batch=4, problems=300))


# Pictures and questions


def test_no_scene_is_in_both_splits():
    train, test = ({p.scene for p in shapes.problems(2000, split, seed=0)} for split in ("train", "test"))
    assert len(test) > 1000
    assert not train & test


def test_the_same_seed_gives_the_same_problems_and_another_others():
    assert shapes.problems(30, "train", 1) == shapes.problems(30, "train", 1)
    assert shapes.problems(30, "train", 1) != shapes.problems(30, "train", 2)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_answers_are_what_the_scene_shows(seed: int):
    for problem in shapes.problems(9, "train", seed):
        scene = problem.scene
        if problem.kind == "count":
            assert problem.answer == str(scene.number())
        elif problem.kind == "colour":
            assert scene.number(problem.answer) == scene.number()
        else:
            assert problem.answer == max(problem.choices, key=scene.number)
            assert len({scene.number(colour) for colour in problem.choices}) == 2
        assert problem.answer in problem.choices


def test_things_of_every_colour_and_form_look_different():
    cells = (None,) * (shapes.GRID**2 - 1)
    scenes = [shapes.Scene((shapes.Thing(c, f), *cells)) for c in shapes.COLOURS for f in shapes.FORMS]
    assert len({scene.draw().tobytes() for scene in scenes}) == len(shapes.COLOURS) * len(shapes.FORMS)


# What the teacher says


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_teachers_texts_are_graded_and_its_verdicts_read_as_meant(seed: int):
    rng = random.Random(seed)
    for problem in shapes.problems(6, "train", seed):
        guess, text = teacher.first_answer(problem, rng)
        assert grpo_vlm.accuracy([[{"content": text}]], [problem.answer]) == [float(guess == problem.answer)]
        critique = teacher.critique(problem, guess, rng)
        looked = "again" in critique
        assert read_verdict(critique) is (guess == problem.answer or not looked)


def test_most_first_answers_are_glances_and_most_glances_wrong():
    rng = random.Random(0)
    given = [(problem, teacher.first_answer(problem, rng)) for problem in shapes.problems(600, "train", 0)]
    glanced = [guess == problem.answer for problem, (guess, text) in given if "glance" in text]
    assert 0.55 < len(glanced) / len(given) < 0.75
    assert 0.3 < sum(glanced) / len(glanced) < 0.5
    assert all(guess == problem.answer for problem, (guess, text) in given if "glance" not in text)


def test_the_reward_of_an_answer_that_cannot_be_read_is_zero():
    unreadable = ["", "<think>3</think>", "\\boxed{", "\\boxed{}", "\\boxed{blue red}"]
    assert grpo_vlm.accuracy([[{"content": text}] for text in unreadable], ["red"] * 5) == [0.0] * 5


# The models


def test_pixels_are_laid_out_as_the_layout_says(layout: Layout, barely_trained: Parts):
    _, processor = barely_trained
    [first, second] = shapes.problems(2, "train", 0)
    texts = [processor.apply_chat_template(teacher.ask(p), add_generation_prompt=True) for p in (first, second)]
    inputs = processor(
        images=[[p.scene.draw()] for p in (first, second)], text=texts, padding=True, return_tensors="pt"
    )
    cells = shapes.GRID**2
    assert (inputs["input_ids"] == processor.image_token_id).sum(dim=1).tolist() == [cells, cells]
    if layout == "llava":
        assert inputs["pixel_values"].shape == (2, 3, shapes.SIDE, shapes.SIDE)
    else:
        assert inputs["pixel_values"].shape[0] == int(inputs["image_grid_thw"].prod(dim=1).sum()) == 2 * cells * 4


@pytest.mark.parametrize("prompts", [teacher.prompts(), bundled_prompts()], ids=["short", "bundled"])
def test_the_critic_sees_the_image(barely_trained: Parts, prompts: Prompts):
    model, processor = barely_trained
    problem, other = shapes.problems(2, "test", 0)

    def logits(picture: Image.Image) -> torch.Tensor:
        asked = prompts.critique(teacher.with_picture(teacher.ask(problem), picture), teacher.formatted("", "3"))
        inputs = processor.apply_chat_template(
            [asked], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.no_grad():
            return model(**inputs).logits[0, -1]

    seen = logits(problem.scene.draw())
    assert torch.equal(seen, logits(problem.scene.draw()))
    assert (seen - logits(other.scene.draw())).abs().max() > 1e-3


def test_any_text_survives_the_tokenizer(barely_trained: Parts):
    _, processor = barely_trained
    text = "naïve 东西\t{\\boxed{3}} <answer>\n"
    assert processor.tokenizer.decode(processor.tokenizer(text)["input_ids"]) == text


def test_training_is_kept_and_found_again(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = train_tiny.Recipe(steps=2, batch=2, problems=50)
    first, _ = train_tiny.trained(layout, recipe, tmp_path)
    capsys.readouterr()
    again, processor = train_tiny.trained(layout, recipe, tmp_path)
    assert "Training" not in capsys.readouterr().out
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert processor.tokenizer.padding_side == "left"


def test_it_learns_to_see(barely_trained: Parts):
    """A few steps of naming colours: the right colour is likelier under its picture than under another one."""
    model, processor = copy.deepcopy(barely_trained[0]).train(), barely_trained[1]
    pool = shapes.problems(STEPS * 16, "train", 0, kinds=["colour"])
    batches = [[named(problem, problem) for problem in pool[at : at + 16]] for at in range(0, len(pool), 16)]
    train_tiny.imitate(model, processor, lambda step: batches[step - 1], STEPS, 3e-3)
    test = shapes.problems(32, "test", 0, kinds=["colour"])
    others = [next(other for other in test if other.answer != problem.answer) for problem in test]
    with torch.no_grad():
        own = train_tiny.imitation_loss(model, processor, [named(p, p) for p in test])
        anothers = train_tiny.imitation_loss(
            model, processor, [named(*pair) for pair in zip(test, others, strict=True)]
        )
    assert own < anothers / 2


def named(problem: shapes.Problem, seen: shapes.Problem) -> teacher.Lesson:
    """The answer to ``problem``, under the picture of ``seen``."""
    return teacher.Lesson(seen, teacher.ask(problem), problem.answer)


# GRPO with refinement


def run_steps(monkeypatch: pytest.MonkeyPatch, parts: Parts, folder: Path, **refine: Any) -> Any:
    monkeypatch.setattr(grpo_vlm, "load_model", lambda name, seed: parts)
    args = grpo_vlm.settings("tiny-llava", folder, steps=2, seed=0)
    args.per_device_train_batch_size = args.generation_batch_size = 16
    args.max_completion_length = 12
    trainer = grpo_vlm.make_trainer("tiny-llava", args, grpo_vlm.shape_rows(8, "train", 0, tiny=True), **refine)
    trainer.train()
    return trainer


@pytest.mark.parametrize("use_critique", [True, False], ids=["critique", "one stage"])
def test_steps_of_grpo_with_refinement(
    barely_trained: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_critique: bool
):
    trainer = run_steps(monkeypatch, barely_trained, tmp_path, use_critique=use_critique)
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    rows = [json.loads(line) for line in (tmp_path / "self_refine_log.jsonl").open(encoding="utf-8")]
    assert len(rows) == 2 * 16
    refined = [row for row in rows if not row["was_correct_at_t1"]]
    assert refined
    assert trainer.refine_agent.histories


def test_a_folder_of_the_qwen_family_needs_no_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tokenizer = tiny_vlm.build_tokenizer([teacher.ANSWER_SYSTEM])
    processor = tiny_vlm.build_processor("qwen2vl", tokenizer)
    tokenizer.chat_template = processor.chat_template
    folder = tmp_path / "model"
    for part in (Qwen2_5_VLForConditionalGeneration(_tiny_qwen25(tokenizer)), tokenizer, processor.image_processor):
        part.save_pretrained(folder)
    trainer = run_steps(monkeypatch, grpo_vlm.load_model(str(folder)), tmp_path / "run")
    assert trainer.refine_agent.histories


def _tiny_qwen25(tokenizer: Any) -> Qwen2_5_VLConfig:
    ids = tokenizer.get_vocab()
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024}
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}
    tokens = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    vision = {"depth": 1, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 64, "num_heads": 4}
    patches = {"patch_size": shapes.CELL // 2, "window_size": 16, "fullatt_block_indexes": [0]}
    return Qwen2_5_VLConfig(
        text_config={**text, **heads, **tokens, "rope_parameters": rope},
        vision_config={**vision, **patches},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )


# Bad input


def test_a_model_that_is_not_there_is_named_with_what_to_do():
    with pytest.raises(ModelError, match=r"--model /nowhere.*tiny-llava or tiny-qwen2vl.*hf download"):
        grpo_vlm.load_model("/nowhere")


def test_problems_of_ones_own_are_read(tmp_path: Path):
    Image.new("L", (20, 10)).save(tmp_path / "one.png")
    (tmp_path / "data.jsonl").write_text('{"image": "one.png", "question": "What is it?", "answer": 3}\n\n')
    [row] = grpo_vlm.file_rows(tmp_path / "data.jsonl", tiny=False)
    assert (row["image"].mode, row["solution"], row["prompt"][1]["content"]) == ("RGB", "3", "What is it?")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"image": "none.png", "question": "?", "answer": "1"}', "none.png"),
        ('{"question": "?", "answer": "1"}', "no key 'image'"),
        ("[1]", "line 1"),
        ("{", "line 1"),
    ],
)
def test_a_line_that_is_no_problem_is_named(tmp_path: Path, line: str, says: str):
    (tmp_path / "data.jsonl").write_text(line + "\n")
    with pytest.raises(TaskError, match=r"data\.jsonl, line 1") as raised:
        grpo_vlm.file_rows(tmp_path / "data.jsonl", tiny=True)
    assert says in str(raised.value)


def test_launch_says_what_is_missing_and_exits_with_2(tmp_path: Path):
    started = subprocess.run(
        [FOLDER / "launch.sh", "--model", "/nowhere", "--problems", "3"], cwd=tmp_path, capture_output=True, text=True
    )
    assert started.returncode == 2
    assert "grpo_vlm: --model /nowhere" in started.stderr
    assert "Traceback" not in started.stderr


# The whole way


@pytest.mark.slow
def test_a_trained_model_answers_and_refinement_helps_it(layout: Layout, tmp_path: Path):
    from tutorial.example_self_refine_vlm.measure import outcomes

    model, processor = train_tiny.trained(layout, cache=tmp_path)
    measured = outcomes(model, processor, shapes.problems(300, "test", 1), seed=0)
    assert 0.4 < measured.accuracies[0].value < 0.8
    assert measured.delta.ci95[0] > 0
