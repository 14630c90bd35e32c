"""The fast path computes what transformers computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import Tensor
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

from astune.models.decoder import FastDecoder

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def randomised(model: PreTrainedModel) -> PreTrainedModel:
    """Moves every parameter, so that biases and norm weights are not what they start as (0 and 1)."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def build(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    match name:
        case "llama":
            return randomised(LlamaForCausalLM(LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True)))
        case "llama-rope3":
            return randomised(LlamaForCausalLM(LlamaConfig(**SMALL, rope_parameters=LLAMA3)))
        case "qwen2":
            return randomised(Qwen2ForCausalLM(Qwen2Config(**SMALL, tie_word_embeddings=True)))
        case "qwen2-yarn":
            return randomised(Qwen2ForCausalLM(Qwen2Config(**SMALL, rope_parameters=YARN)))
        case _:
            return randomised(Qwen3ForCausalLM(Qwen3Config(**SMALL, head_dim=16)))


MODELS = ["llama", "llama-rope3", "qwen2", "qwen2-yarn", "qwen3"]


def causal(decoder: FastDecoder) -> Any:
    """The plainest possible attention: every token sees itself and what is before it."""

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.transpose(-2, -3) for t in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=decoder.scaling, enable_gqa=True
        )
        return out.transpose(-2, -3)

    return attend


def fast_logits(model: torch.nn.Module, ids: Tensor) -> Tensor:
    decoder = FastDecoder(model)
    positions = torch.arange(ids.shape[-1]).expand(ids.shape)
    return decoder.logits(decoder.hidden(ids, positions, causal(decoder)))


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 61, (2, 40), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_the_models_own(name: str, ids: Tensor) -> None:
    model = build(name)
    torch.testing.assert_close(fast_logits(model, ids), model(ids).logits, atol=2e-5, rtol=1e-4)


def test_unbatched_ids_give_unbatched_hidden_states(ids: Tensor) -> None:
    model = build("qwen2")
    torch.testing.assert_close(fast_logits(model, ids[0]), model(ids).logits[0], atol=2e-5, rtol=1e-4)


def test_lora_adapters_apply(ids: Tensor) -> None:
    wrapped = get_peft_model(build("qwen2"), LoraConfig(target_modules="all-linear", init_lora_weights=False))
    wrapped.eval()
    torch.testing.assert_close(fast_logits(wrapped, ids), wrapped(ids).logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_gradients_equal_the_models_own(name: str, ids: Tensor) -> None:
    model = build(name)
    fast = torch.autograd.grad(fast_logits(model, ids).square().mean(), list(model.parameters()))
    slow = torch.autograd.grad(model(ids).logits.square().mean(), list(model.parameters()))
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-3)


def test_bfloat16_agrees_to_its_precision(ids: Tensor) -> None:
    model = build("qwen3").to(torch.bfloat16)
    torch.testing.assert_close(fast_logits(model, ids), model(ids).logits, atol=0.1, rtol=0.1)


def test_other_architectures_are_not_supported() -> None:
    assert not FastDecoder.supports(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=20)))


def test_sliding_windows_are_not_supported() -> None:
    config = Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=8, max_window_layers=1)
    assert not FastDecoder.supports(Qwen2ForCausalLM(config))


def test_length_dependent_rope_is_not_supported() -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    assert not FastDecoder.supports(LlamaForCausalLM(LlamaConfig(**SMALL, rope_parameters=rope)))


def test_prompt_tuning_is_not_supported() -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    assert not FastDecoder.supports(get_peft_model(build("qwen2"), config))


def test_an_unsupported_model_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="GPT2LMHeadModel"):
        FastDecoder(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=20)))
