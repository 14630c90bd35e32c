"""TRL's own trainers on the bundled model, and on tiny vision-language models with random weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig

from astune.models.nano import NANO_PATH
from astune.refine.prompts import bundled_prompts

Trainers = Callable[..., Any]

QUESTIONS = [(f"Tom has {n} eggs and buys {n + 3} more. How many eggs does Tom have?", 2 * n + 3) for n in range(2, 14)]


def text_rows(count: int = len(QUESTIONS)) -> list[dict[str, Any]]:
    return [
        {"prompt": [{"role": "user", "content": question}], "solution": str(answer)}
        for question, answer in QUESTIONS[:count]
    ]


def even_length(completions: list[Any], **_: Any) -> list[float]:
    """A reward that half of all completions get, whatever the model knows."""
    return [float(len(completion[-1]["content"]) % 2 == 0) for completion in completions]


def config(folder: Path, **options: Any) -> GRPOConfig:
    given = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "steps_per_generation": 2,
        "max_completion_length": 16,
        "max_steps": 2,
        "learning_rate": 1e-4,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }
    return GRPOConfig(**given | options)


def nano() -> dict[str, Any]:
    return {
        "model": AutoModelForCausalLM.from_pretrained(NANO_PATH, dtype=torch.float32),
        "processing_class": AutoTokenizer.from_pretrained(NANO_PATH),
    }


@pytest.fixture
def text_trainer(tmp_path: Path) -> Iterator[Trainers]:
    """Makes a trainer on the bundled model; ``args`` go to GRPOConfig, the rest to the trainer."""
    from astune.trl import GRPOTrainer

    def make(trainer_class: Any = GRPOTrainer, args: dict[str, Any] | None = None, **options: Any) -> Any:
        given = {
            "reward_funcs": even_length,
            "args": config(tmp_path, **args or {}),
            "train_dataset": Dataset.from_list(text_rows()),
            "enable_self_refine": True,
        }
        return trainer_class(**nano() | given | options)

    yield make


def image_parts(layout: str, weights_seed: int = 0) -> tuple[Any, Any]:
    """A vision-language model with random weights, and its processor."""
    from tutorial.example_self_refine_vlm.tiny_vlm import build_model, build_processor, build_tokenizer

    tokenizer = build_tokenizer([question for question, _ in QUESTIONS] + list(_prompt_texts()))
    torch.manual_seed(weights_seed)
    return build_model(layout, tokenizer), build_processor(layout, tokenizer)  # type: ignore[arg-type]


def _prompt_texts() -> Iterator[str]:
    yield from dataclasses.asdict(bundled_prompts()).values()


def image_rows(layout: str, count: int = 6) -> list[dict[str, Any]]:
    """Questions with a picture each; with ``qwen2vl`` pictures of different sizes, hence numbers of patches."""
    from PIL import Image

    sides = [48, 48, 64, 48, 64, 48] if layout == "qwen2vl" else [48] * 6
    pictures = [Image.new("RGB", (side, 48), (40 * index, 255 - 40 * index, 90)) for index, side in enumerate(sides)]
    return [
        {"prompt": [{"role": "user", "content": "What colour is it?"}], "image": picture, "solution": "red"}
        for picture in pictures[:count]
    ]


@pytest.fixture
def image_trainer(tmp_path: Path) -> Iterator[Trainers]:
    """Makes a trainer on a tiny vision-language model."""
    from astune.trl import GRPOTrainer

    def make(layout: str, args: dict[str, Any] | None = None, **options: Any) -> Any:
        model, processor = image_parts(layout)
        given = {
            "model": model,
            "processing_class": processor,
            "reward_funcs": even_length,
            "args": config(tmp_path, max_completion_length=8, **args or {}),
            "train_dataset": Dataset.from_list(image_rows(layout)),
            "enable_self_refine": True,
        }
        return GRPOTrainer(**given | options)

    yield make


def first_batch(trainer: Any) -> list[dict[str, Any]]:
    """The first generation batch of a training, with the model in the mode that TRL takes for training."""
    trainer.model.train()
    batch: list[dict[str, Any]] = next(iter(trainer.get_train_dataloader()))
    return batch
