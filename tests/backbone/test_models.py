"""Another model is another ``model.path``: families in random weights train through the whole command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.rollout.fake_engine import QWEN25_TEMPLATE, QWEN25_TOKENS, small_tokenizer
from tests.small_run import Astuner

CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTEXT = 4096
SHAPE: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": CONTEXT,
}  # fmt: skip
FAMILIES: dict[str, Callable[[int], PreTrainedModel]] = {
    "qwen2": lambda words: Qwen2ForCausalLM(Qwen2Config(vocab_size=words, **SHAPE)),
    "qwen3": lambda words: Qwen3ForCausalLM(Qwen3Config(vocab_size=words, head_dim=8, **SHAPE)),
    "llama": lambda words: LlamaForCausalLM(LlamaConfig(vocab_size=words, **SHAPE)),
    "gpt2": lambda words: GPT2LMHeadModel(
        GPT2Config(vocab_size=words, n_embd=16, n_layer=1, n_head=2, n_positions=CONTEXT)
    ),
}
#: Random weights solve nothing: this judge prefers some first tokens over others, so that there is a gradient.
JUDGE = """
class Parity:
    def compute_reward(self, evidence):
        return float(evidence["grouped_steps"][0].completion_ids[0] % 2), True
"""


@pytest.fixture
def train(astuner: Astuner) -> Callable[..., Path]:
    """Trains a model folder for two steps and returns the last checkpoint."""

    def train(model: Path, *changes: str) -> Path:
        (astuner.folder / "judge.py").write_text(JUDGE)
        done = astuner(
            f"task_judge.judge_protocol={astuner.folder}/judge.py->Parity", "trainer.steps=2", "trainer.group_size=6",
            "rollout.max_tokens=12", *changes, f"model.path={model}",
        )  # fmt: skip
        assert done.status == 0, done.err
        assert [row["episodes_failed"] for row in astuner.run.read_metrics()] == [0, 0]
        return astuner.run.checkpoints / "step_000002"

    return train


def save(folder: Path, family: str, tokens: tuple[str, ...], template: str) -> Path:
    tokenizer = small_tokenizer(tokens, template)
    torch.manual_seed(0)
    FAMILIES[family](len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def changed(before: Path, after: Path) -> bool:
    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    return any(not torch.equal(old[name], new[name]) for name in old)


@pytest.mark.parametrize("workflow", [(), ("rollout.workflow=null",)], ids=["plain", "agentscope"])
def test_qwen25_trains_with_its_own_template(
    tmp_path: Path, train: Callable[..., Path], workflow: tuple[str, ...]
) -> None:
    model = save(tmp_path / "model", "qwen2", QWEN25_TOKENS, QWEN25_TEMPLATE)
    assert changed(model, train(model, *workflow))


@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2"])
def test_other_families_train_with_a_chatml_template(tmp_path: Path, train: Callable[..., Path], family: str) -> None:
    model = save(tmp_path / "model", family, CHATML_TOKENS, CHATML_TEMPLATE)
    assert changed(model, train(model))


def test_a_checkpoint_of_another_family_is_evaluated(
    tmp_path: Path, astuner: Astuner, train: Callable[..., Path]
) -> None:
    model = save(tmp_path / "model", "gpt2", CHATML_TOKENS, CHATML_TEMPLATE)
    done = astuner.evaluate(train(model), "evaluation.n_heldout=2", "rollout.max_tokens=12")
    assert done.status == 0, done.err
