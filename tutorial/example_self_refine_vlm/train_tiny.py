"""Trains a tiny vision-language model from nothing: imitation of the teacher's texts, on the CPU, offline.

python -m tutorial.example_self_refine_vlm.train_tiny --layout llava
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from filelock import FileLock
from transformers import PreTrainedModel, ProcessorMixin

from astune.files import atomic_folder
from tutorial.example_self_refine_vlm import shapes, teacher, tiny_vlm
from tutorial.example_self_refine_vlm.teacher import PROMPT_FOLDER, Lesson
from tutorial.example_self_refine_vlm.tiny_vlm import LAYOUTS, Layout

#: Where trained models are kept, below the working directory; git ignores it.
CACHE = Path("saved_experiments/tiny_vlm")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a tiny model is trained. ``problems`` are drawn once; each lesson about one is new."""

    steps: int = 800
    batch: int = 32
    learning_rate: float = 3e-3
    problems: int = 8_000
    seed: int = 0


def trained(
    layout: Layout, recipe: Recipe | None = None, cache: Path = CACHE
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The trained model and its processor, from ``cache`` or, the first time, trained now and kept there."""
    recipe = recipe or Recipe()
    folder = cache / f"{layout}-{_fingerprint(recipe)}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{folder.name}.lock"):  # of several processes one trains, the others wait for it
        if not folder.is_dir():
            print(f"Training a tiny {layout} model from nothing into {folder} (a minute or two, this once)", flush=True)
            model, processor = train(layout, recipe)
            with atomic_folder(folder) as scratch:
                model.save_pretrained(scratch)
                processor.save_pretrained(scratch)
    return tiny_vlm.load(folder, layout)


def train(layout: Layout, recipe: Recipe) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A model after the recipe's steps of imitation. The same arguments give the same model."""
    rng = random.Random(recipe.seed)
    pool = shapes.problems(recipe.problems, "train", recipe.seed)
    tokenizer = tiny_vlm.build_tokenizer(_texts([teacher.lesson(problem, rng) for problem in pool[:2000]]))
    processor = tiny_vlm.build_processor(layout, tokenizer)
    torch.manual_seed(recipe.seed)
    model = tiny_vlm.build_model(layout, tokenizer).train()

    def lessons(_: int) -> list[Lesson]:
        return [teacher.lesson(rng.choice(pool), rng) for _ in range(recipe.batch)]

    imitate(model, processor, lessons, recipe.steps, recipe.learning_rate)
    return model.eval(), processor


def imitate(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    lessons: Callable[[int], Sequence[Lesson]],
    steps: int,
    learning_rate: float,
) -> None:
    """Trains ``model`` in place on ``lessons(step)`` for steps from 1."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    started = time.monotonic()
    for step in range(1, steps + 1):
        loss = imitation_loss(model, processor, lessons(step))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"  step {step}/{steps}  loss {loss.item():.3f}  {time.monotonic() - started:.0f} s", flush=True)


def imitation_loss(model: PreTrainedModel, processor: ProcessorMixin, lessons: Sequence[Lesson]) -> torch.Tensor:
    """Mean cross-entropy of the completions' tokens; prompts and pictures are given, and not learned."""
    ends = [lesson.completion + processor.tokenizer.eos_token for lesson in lessons]
    prompts = [processor.apply_chat_template(lesson.messages, add_generation_prompt=True) for lesson in lessons]
    inputs = processor(
        images=[[lesson.problem.scene.draw()] for lesson in lessons],
        text=[prompt + end for prompt, end in zip(prompts, ends, strict=True)],
        padding=True,
        return_tensors="pt",
    )
    # Rows are padded on the left, so a completion is the last of its row.
    lengths = torch.tensor([len(ids) for ids in processor.tokenizer(ends)["input_ids"]])
    longest = int(lengths.max())
    learned = torch.arange(longest) >= longest - lengths[:, None]
    labels = inputs["input_ids"][:, -longest:].masked_fill(~learned, -100)
    logits = model(**inputs, logits_to_keep=longest + 1).logits[:, :-1]  # each predicts the token after it
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate: a short rise, then half a cosine down to a twentieth."""
    return min(1.0, (step + 1) / 50) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _texts(lessons: Sequence[Lesson]) -> list[str]:
    spoken = [message["content"] for lesson in lessons for message in lesson.messages]
    texts = [content if isinstance(content, str) else content[-1]["text"] for content in spoken]
    return [*texts, *(lesson.completion for lesson in lessons)]


def _fingerprint(recipe: Recipe) -> str:
    """Changes with the recipe and with what a model is made of, so that an old one is never taken for a new one."""
    files = [Path(str(module.__file__)) for module in (shapes, teacher, tiny_vlm)]
    files += [Path(__file__), *sorted(PROMPT_FOLDER.glob("*.txt"))]
    made_of = [*(path.read_bytes() for path in files), repr(asdict(recipe)).encode()]
    return hashlib.sha256(b"\0".join(made_of)).hexdigest()[:8]


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains one model, or finds it trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", choices=LAYOUTS, default="llava")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where models are kept (%(default)s)")
    options = parser.parse_args(arguments)
    trained(options.layout, Recipe(steps=options.steps), options.cache)


if __name__ == "__main__":
    main()
