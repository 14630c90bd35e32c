"""What both trainers of the training-step benchmark do: the same model, problems, rewards and sizes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from astune.models.load import resolve_model_path
from astune.task_judge.math_answer_as_judge import answers_match
from astune.task_reader.nano_gsm import read_nano_gsm
from astune.task_reader.types import Task

GROUP_SIZE = 8
PROMPTS_PER_STEP = 8
LEARNING_RATE = 1e-4
MAX_TOKENS = 128  # a turn
MAX_TURNS = 3
SYSTEM_PROMPT = (
    "You solve math word problems. Break the problem down, compute with Python code that prints the result, "
    "wait for the tool response, then give the final answer within \\boxed{}."
)

_CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>\s*$", re.DOTALL)


def model_folder() -> Path:
    """Folder of the bundled model."""
    return resolve_model_path("nano")


def training_problems(steps: int, seed: int) -> list[Task]:
    """The problems of a run in the order in which both trainers see them."""
    return read_nano_gsm(n=steps * PROMPTS_PER_STEP, seed=seed, split="train")


def call_format_reward(text: str) -> float:
    """1 for a turn that ends in a well-formed call whose code prints, and gives no answer yet."""
    found = _CALL.search(text.removesuffix("<|im_end|>"))
    if found is None or "\\boxed" in text:
        return 0.0
    try:
        call = json.loads(found.group(1))
    except json.JSONDecodeError:
        return 0.0
    if not isinstance(call, dict) or not isinstance(call.get("arguments"), dict):
        return 0.0
    return float("print(" in str(call["arguments"].get("code")))


def final_answer_reward(text: str, reference: str) -> float:
    """1 for a final message whose answer equals the reference."""
    return float("\\boxed" in text and answers_match(text, reference) is True)
