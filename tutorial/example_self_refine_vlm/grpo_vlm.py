"""GRPO with self-refine for a vision-language model: the configuration, and the start.

    python -m tutorial.example_self_refine_vlm.grpo_vlm --model tiny-llava
    python -m tutorial.example_self_refine_vlm.grpo_vlm --model /path/to/Qwen2.5-VL-3B-Instruct

The first trains on any laptop. The second is the same script with the settings of a real model; it wants a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, Qwen2VLImageProcessorPil, set_seed
from transformers.utils.import_utils import is_torchvision_available
from trl.trainer.grpo_config import GRPOConfig

from astune.errors import ModelError, TaskError, UserError
from astune.models.load import WEIGHT_FILES
from astune.task_judge.math_answer_as_judge import answers_match
from astune.trl import GRPOTrainer
from tutorial.example_self_refine_vlm import shapes, teacher, train_tiny
from tutorial.example_self_refine_vlm.tiny_vlm import LAYOUTS, PictureProcessor

TINY = {f"tiny-{layout}": layout for layout in LAYOUTS}
#: Pictures for a real model: its patches are made for more than the 48 pixels of the tiny ones.
REAL_SIDE = 336
REAL_SYSTEM = (
    "You are a problem solver. Look at the picture and answer the question.\n\n"
    "Use the standard format:\n"
    "<think>Your unstructured internal reasoning</think>\n"
    "<answer>Clear, well-formatted solution with final answer in \\boxed{}</answer>"
)


def accuracy(completions: Sequence[Any], solution: Sequence[str], **_: Any) -> list[float]:
    r"""1 for an answer in ``\boxed{}`` that matches the solution, else 0. What it says is what counts as correct."""
    texts = [completion[-1]["content"] for completion in completions]
    return [float(answers_match(text, gold) is True) for text, gold in zip(texts, solution, strict=True)]


def shape_rows(count: int, split: shapes.Split, seed: int, *, tiny: bool) -> Dataset:
    """Problems about shapes as TRL reads them: columns ``prompt``, ``image``, ``solution``."""
    side = shapes.SIDE if tiny else REAL_SIDE
    system = teacher.ANSWER_SYSTEM if tiny else REAL_SYSTEM
    return Dataset.from_list(
        [
            _row(system, problem.question, _enlarged(problem.scene.draw(), side), problem.answer)
            for problem in shapes.problems(count, split, seed)
        ]
    )


def file_rows(path: Path, *, tiny: bool) -> Dataset:
    """Problems of one's own, an object a line: ``image`` (a path from the file's folder), ``question``, ``answer``.

    Raises:
        TaskError: names the line, and what is wrong with it.
    """
    system = teacher.ANSWER_SYSTEM if tiny else REAL_SYSTEM
    if not path.is_file():
        raise TaskError(f"data file {path} does not exist")
    lines = path.read_text(encoding="utf-8").split("\n")  # splitlines would cut at characters within a text
    rows = [_file_row(path, number, line, system) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise TaskError(f"{path} holds no problem")
    return Dataset.from_list(rows)


def load_model(name: str, seed: int = 0) -> tuple[Any, Any]:
    """A tiny model (trained now, the first time), or the one in a folder, and its processor.

    Raises:
        ModelError: no such folder, or something that it needs is missing here.
    """
    if name in TINY:
        return train_tiny.trained(TINY[name])
    folder = Path(name).expanduser()
    if not (folder / "config.json").is_file() or not any((folder / weights).is_file() for weights in WEIGHT_FILES):
        raise ModelError(
            f"--model {name}: no folder with config.json and weights; use {' or '.join(TINY)}, or download one first: "
            f"hf download Qwen/Qwen2.5-VL-3B-Instruct --local-dir {name}"
        )
    set_seed(seed)
    kind = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=kind), _processor(folder)


def settings(name: str, output: Path, steps: int | None, seed: int) -> GRPOConfig:
    """TRL's configuration: small and on the CPU for a tiny model, else that of a real one.

    A generation batch of the tiny model is 8 problems with 8 answers each.
    """
    gpu = torch.cuda.is_available()
    common: dict[str, Any] = {
        "output_dir": str(output),
        "num_generations": 8,
        "scale_rewards": "none",
        "beta": 0.0,
        "temperature": 1.0,
        "logging_steps": 1,
        "report_to": [],
        "seed": seed,
        "use_cpu": not gpu,
        "bf16": gpu and name not in TINY,
    }
    if name in TINY:
        return GRPOConfig(
            **common,
            max_steps=40 if steps is None else steps,
            per_device_train_batch_size=64,
            per_device_eval_batch_size=64,
            max_completion_length=48,
            learning_rate=3e-4,
            lr_scheduler_type="constant",
            gradient_checkpointing=False,
            save_strategy="no",
        )
    return GRPOConfig(
        **common,
        max_steps=500 if steps is None else steps,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        max_completion_length=1024,
        learning_rate=1e-6,
        warmup_steps=10,
        gradient_checkpointing=gpu,
        save_steps=100,
    )


def make_trainer(name: str, args: GRPOConfig, data: Dataset, *, eval_data: Dataset | None = None, **refine: Any) -> Any:
    """The trainer of the seed's form; ``refine`` takes the place of its three settings, or adds to them."""
    model, processor = load_model(name, args.seed)
    agent = {"prompts": teacher.PROMPT_FOLDER, "critique_view": "feedback"} if name in TINY else {}
    options = {"enable_self_refine": True, "use_critique": True, "max_refine_rounds": 1, **refine}
    return GRPOTrainer(
        model=model,
        processing_class=processor,
        reward_funcs=accuracy,
        args=args,
        train_dataset=data,
        eval_dataset=eval_data,
        agent_kwargs=agent | options.pop("agent_kwargs", {}),
        **options,
    )


def _processor(folder: Path) -> Any:
    """The folder's own processor; without torchvision, the family's pictures without its videos."""
    if is_torchvision_available():
        return AutoProcessor.from_pretrained(folder, padding_side="left")
    family = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "")
    if family not in ("qwen2_vl", "qwen2_5_vl"):
        raise ModelError(f"{folder} ({family or 'no model_type'}) needs torchvision here: pip install torchvision")
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    pictures = Qwen2VLImageProcessorPil.from_pretrained(folder)
    return PictureProcessor(image_processor=pictures, tokenizer=tokenizer, chat_template=tokenizer.chat_template)


def _row(system: str, question: str, image: Image.Image, solution: str) -> dict[str, Any]:
    # TRL puts the image before the text of the first user message.
    prompt = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return {"prompt": prompt, "image": image, "solution": solution}


def _enlarged(picture: Image.Image, side: int) -> Image.Image:
    return picture.resize((side, side), Image.Resampling.NEAREST)


def _file_row(path: Path, number: int, line: str, system: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        with Image.open(path.parent / row["image"]) as opened:
            image = opened.convert("RGB")
        return _row(system, str(row["question"]), image, str(row["answer"]))
    except (ValueError, TypeError, KeyError, OSError) as error:
        detail = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise TaskError(f"{path}, line {number}: {detail}; a line is an object with image, question, answer") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-llava", help=f"{', '.join(TINY)}, or a model's folder (%(default)s)")
    parser.add_argument("--data", type=Path, help="problems of your own (JSON lines); without it, shapes")
    parser.add_argument("--problems", type=int, default=512, help="shapes to train on (%(default)s)")
    parser.add_argument("--steps", type=int, help="training steps (40 for a tiny model, else 500)")
    parser.add_argument("--rounds", type=int, default=1, help="max_refine_rounds (%(default)s)")
    parser.add_argument("--no-critique", action="store_true", help="refine in one stage")
    parser.add_argument("--no-refine", action="store_true", help="TRL's trainer as it is, to compare")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("saved_experiments/grpo_vlm"))
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains; what is missing here is said in a sentence, with exit status 2."""
    options = _parser().parse_args(arguments)
    tiny = options.model in TINY
    try:
        if not tiny and not torch.cuda.is_available():
            print("No GPU: a real model trains on the CPU, too, but in days.", file=sys.stderr)
        if options.data is not None:
            data = file_rows(options.data, tiny=tiny)
        else:
            data = shape_rows(options.problems, "train", options.seed, tiny=tiny)
        trainer = make_trainer(
            options.model,
            settings(options.model, options.output, options.steps, options.seed),
            data,
            enable_self_refine=not options.no_refine,
            use_critique=not options.no_critique,
            max_refine_rounds=options.rounds,
        )
        trainer.train()
        trainer.save_model()
    except UserError as error:
        print(f"grpo_vlm: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    if trainer.is_world_process_zero():
        print(f"Trained. Model and self_refine_log.jsonl are in {options.output}")


if __name__ == "__main__":
    main()
