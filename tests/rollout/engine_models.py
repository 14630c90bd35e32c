"""Tiny random models and helpers that the engine's tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from astune.rollout.types import Sampling
from astune.trace import Turn

VOCAB = 97
SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    # Far from uniform predictions, so that greedy choices have a clear winner.
    "initializer_range": 0.4,
}

BUILDERS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SMALL, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL, head_dim=16)),
    "qwen2-sliding": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=8, max_window_layers=1)
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.4)
    ),
    "mamba": lambda: MambaForCausalLM(
        MambaConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, state_size=4, initializer_range=0.4)
    ),
}


def build(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return BUILDERS[name]().eval()


def random_ids(length: int, seed: int) -> list[int]:
    return torch.randint(1, VOCAB, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def prompts_of_a_run(groups: int = 3, root: int = 30) -> list[list[int]]:
    """Prompts with a common beginning and different lengths."""
    return [random_ids(root, 0) + random_ids(5 + 7 * group, 100 + group) for group in range(groups)]


def greedy(max_tokens: int, **options: Any) -> Sampling:
    return Sampling(max_tokens, temperature=0.0, **options)


def plain_logprobs(model: PreTrainedModel, turn: Turn, temperature: float = 1.0) -> list[float]:
    """Log-probabilities of a turn's completion from one forward pass over the whole sequence."""
    ids = torch.tensor([turn.prompt_ids + turn.completion_ids])
    with torch.no_grad():
        logits = model(ids).logits[0, len(turn.prompt_ids) - 1 : -1].float() / temperature
    picked = logits.log_softmax(-1).gather(-1, torch.tensor(turn.completion_ids)[:, None])
    return picked.squeeze(-1).tolist()


def together(*calls: Coroutine[Any, Any, Any]) -> Any:
    """Runs coroutines at once in a fresh event loop."""

    async def main() -> Any:
        return await asyncio.wait_for(asyncio.gather(*calls), timeout=60)

    return asyncio.run(main())
