"""One GRPO run of TRL's GRPOTrainer on the bundled model, timed step by step (a child of training_step.py).

Prints one JSON object: the seconds and the mean reward of every step.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from datasets import Dataset
from training_task import (
    GROUP_SIZE,
    LEARNING_RATE,
    MAX_TOKENS,
    MAX_TURNS,
    PROMPTS_PER_STEP,
    SYSTEM_PROMPT,
    call_format_reward,
    final_answer_reward,
    model_folder,
    training_problems,
)
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import qwen3_chat_template

from astune.tools.python_tool import TOOL_SCHEMA, format_response
from astune.tools.sandbox import Sandbox

SANDBOX = Sandbox()


def execute_python_code(code: str) -> str:
    """Run Python code in a sandbox. Only what the code prints comes back, as stdout.

    Args:
        code: The Python code to run.
    """
    return format_response(SANDBOX.run_sync(code))


class StepTimer(TrainerCallback):
    """Wall-clock seconds between the beginning and the end of each optimiser step, generation included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts the clock."""
        self._start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops the clock."""
        self.seconds.append(time.perf_counter() - self._start)


def single_turn_rows(tokenizer: Any, steps: int, seed: int) -> list[dict[str, str]]:
    """Rendered prompts, so that both trainers see the same ids."""
    rows = []
    for problem in training_problems(steps, seed):
        messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": problem.main_query}]
        text = tokenizer.apply_chat_template(messages, tools=[TOOL_SCHEMA], add_generation_prompt=True, tokenize=False)
        rows.append({"prompt": text, "reference": problem.answer})
    return rows


def tool_agent_rows(steps: int, seed: int) -> list[dict[str, Any]]:
    """Conversational prompts; TRL renders them with ``tools=``."""
    return [
        {
            "prompt": [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": problem.main_query}],
            "reference": problem.answer,
        }
        for problem in training_problems(steps, seed)
    ]


def reward_single(completions: list[str], **_: Any) -> list[float]:
    """The single-turn reward on the decoded text."""
    return [call_format_reward(text) for text in completions]


def reward_agent(completions: list[list[dict[str, Any]]], reference: list[str], **_: Any) -> list[float]:
    """The answer of the last assistant message against the reference."""
    return [
        final_answer_reward(str(c[-1].get("content") or ""), ref) for c, ref in zip(completions, reference, strict=True)
    ]


def main() -> None:
    """Runs one training and prints its record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=("single", "agent"), required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", required=True, help="folder for the trainer's own files")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    model = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.float32)
    agent = arguments.task == "agent"
    if agent:
        tokenizer.chat_template = qwen3_chat_template  # TRL knows families by the text of their template
        rows: list[dict[str, Any]] = tool_agent_rows(arguments.steps, arguments.seed)
    else:
        rows = list(single_turn_rows(tokenizer, arguments.steps, arguments.seed))
    timer = StepTimer()
    config = GRPOConfig(
        output_dir=arguments.work,
        per_device_train_batch_size=PROMPTS_PER_STEP * GROUP_SIZE,
        num_generations=GROUP_SIZE,
        max_completion_length=MAX_TOKENS * (MAX_TURNS if agent else 1) + (64 if agent else 0),
        max_tool_calling_iterations=MAX_TURNS - 1 if agent else None,
        max_steps=arguments.steps,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        beta=0.0,
        loss_type="grpo",
        temperature=1.0,
        seed=arguments.seed,
        shuffle_dataset=False,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=reward_agent if agent else reward_single,
        args=config,
        train_dataset=Dataset.from_list(rows),
        tools=[execute_python_code] if agent else None,
        callbacks=[timer],
    )
    if agent:
        # TRL derives a schema of its own from the function, with its keys in another order; the policy knows this one.
        trainer.tools = [TOOL_SCHEMA]
    trainer.train()
    rewards = [row["reward"] for row in trainer.state.log_history if "reward" in row]
    print("RESULT " + json.dumps({"seconds": timer.seconds, "reward": rewards}))


if __name__ == "__main__":
    main()
