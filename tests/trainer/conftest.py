"""TRL's own trainers around a tiny random model, to compute the same numbers with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

PeerFactory = Callable[..., Any]


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<pad>": 0, "<eos>": 1, **{f"w{i}": i for i in range(2, 16)}}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<eos>"))
    build: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = build(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<eos>"
    )
    return tokenizer


def _model() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=16,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
        )
    )


def _build(
    trainer_class: Any, config_class: Any, folder: Path, rows: int, group: int, beta: float = 0.0, **options: Any
) -> Any:
    from datasets import Dataset

    config = config_class(
        output_dir=str(folder),
        per_device_train_batch_size=rows,
        num_generations=group,
        beta=0.0,
        gradient_accumulation_steps=1,
        report_to=[],
        use_cpu=True,
        bf16=False,
        logging_strategy="no",
        **options,
    )
    trainer = trainer_class(
        model=_model(),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["w2 w3"] * rows}),
        processing_class=_tokenizer(),
    )
    trainer.beta = beta  # set here because the constructor would fetch a reference model by name from the hub
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return trainer


@pytest.fixture
def grpo_peer(tmp_path: Path) -> PeerFactory:
    """``grpo_peer(rows, group, **GRPOConfig options)`` builds TRL's GRPOTrainer."""
    trl = pytest.importorskip("trl")
    return lambda rows, group, **options: _build(trl.GRPOTrainer, trl.GRPOConfig, tmp_path, rows, group, **options)


@pytest.fixture
def rloo_peer(tmp_path: Path) -> PeerFactory:
    """``rloo_peer(rows, group, **RLOOConfig options)`` builds TRL's RLOOTrainer."""
    trl = pytest.importorskip("trl")
    return lambda rows, group, **options: _build(trl.RLOOTrainer, trl.RLOOConfig, tmp_path, rows, group, **options)


@pytest.fixture
def peer_advantages() -> Callable[[Any, Tensor], Tensor]:
    """Runs a peer's scoring code on given rewards ``[N]`` (NaN: not gradable) and returns its advantages ``[N]``."""

    def run(trainer: Any, reward_N: Tensor) -> Tensor:
        rows = len(reward_N)
        ids = [[2, 3]] * rows, [[4, 1]] * rows
        texts = ["w4"] * rows
        generated: tuple[Any, ...] = (
            (*ids, texts) if "RLOO" in type(trainer).__name__ else (*ids, None, texts, None, {}, None, None)
        )
        trainer._generate = lambda prompts: generated
        trainer._calculate_rewards = lambda *_: reward_N[:, None]
        output = trainer._generate_and_score_completions([{"prompt": "w2 w3"}] * rows)
        advantages: Tensor = output["advantages"]
        return advantages

    return run
