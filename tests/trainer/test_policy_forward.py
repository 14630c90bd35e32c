"""The policy forward equals a plain forward pass of each row alone: values and every gradient."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from astune.trace import StopReason, Trajectory, Turn
from astune.trainer import policy_forward
from astune.trainer.packing import PackedBatch, TrainRow, pack
from astune.trainer.policy_forward import token_logps, token_logps_and_entropies

VOCABULARY = 64
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def qwen2() -> nn.Module:
    return Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True))


def qwen3() -> nn.Module:
    return Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8))


def llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**SIZES))


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256))


def lora() -> nn.Module:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    adapted: nn.Module = peft.get_peft_model(qwen2(), config)
    return adapted


MODELS: dict[str, Callable[[], nn.Module]] = {
    "qwen2": qwen2,
    "qwen3": qwen3,
    "llama": llama,
    "gpt2": gpt2,
    "lora": lora,
}
CASES = [(name, fast) for name in MODELS for fast in (True, False) if not (name == "gpt2" and fast)]


def build(name: str) -> nn.Module:
    torch.manual_seed(1)
    return MODELS[name]().eval()


def rows() -> list[TrainRow]:
    """Three groups under one preamble, ragged two-turn rows, and one row that stands alone."""
    source = random.Random(5)

    def tokens(count: int) -> list[int]:
        return [source.randrange(VOCABULARY) for _ in range(count)]

    preamble, result = tokens(30), []
    for group in range(3):
        prompt = preamble + tokens(20 + 3 * group)
        for _ in range(3):
            first, tool, second = tokens(source.randint(1, 12)), tokens(5), tokens(source.randint(1, 9))
            mask = [0] * len(prompt) + [1] * len(first) + [0] * 5 + [1] * len(second)
            ids = prompt + first + tool + second
            turn = Turn(prompt, first, [0.0] * len(first), StopReason.TOOL_CALL)
            result.append(TrainRow(Trajectory(ids, mask, [0.0] * len(ids), [turn]), source.uniform(-1, 1), group))
    alone = tokens(60)
    mask = [0] * 5 + [1] * 55
    result.append(TrainRow(Trajectory(alone, mask, [0.0] * 60, [Turn(alone[:5], [], [], StopReason.EOS)]), 1.0, 3))
    return result


def plain_logits(model: nn.Module, data: list[TrainRow]) -> Tensor:
    """Logits ``[L, V]`` of each row's own forward pass, at its trained tokens."""
    parts = []
    for item in data:
        logits_TV = model(input_ids=torch.tensor([item.trajectory.ids])).logits[0].float()
        parts.append(logits_TV[torch.tensor(item.trajectory.loss_mask).nonzero()[:, 0] - 1])
    return torch.cat(parts)


def plain_logps(model: nn.Module, data: list[TrainRow], temperature: float = 1.0) -> Tensor:
    targets = [t for item in data for t, bit in zip(item.trajectory.ids, item.trajectory.loss_mask, strict=True) if bit]
    logps_LV = (plain_logits(model, data) / temperature).log_softmax(-1)
    return logps_LV.gather(-1, torch.tensor(targets)[:, None])[:, 0]


def gradients(model: nn.Module, logps_L: Tensor, batch: PackedBatch) -> dict[str, Tensor]:
    model.zero_grad()
    torch.autograd.backward([(logps_L * batch.advantage_L).sum()])
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("name", "fast"), CASES)
def test_values_equal_a_plain_forward(name: str, fast: bool) -> None:
    model, data = build(name), rows()
    torch.testing.assert_close(token_logps(model, pack(data), fast=fast), plain_logps(model, data))


@pytest.mark.parametrize(("name", "fast"), CASES)
def test_gradients_of_every_parameter_equal_those_of_a_plain_forward(name: str, fast: bool) -> None:
    model, data = build(name), rows()
    batch = pack(data)
    expected = gradients(model, plain_logps(model, data), batch)
    computed = gradients(model, token_logps(model, batch, fast=fast), batch)
    torch.testing.assert_close(computed, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_stays_close_to_float32(fast: bool) -> None:
    model, data = build("qwen3"), rows()
    expected = plain_logps(model, data)
    logps_L = token_logps(model.to(torch.bfloat16), pack(data), fast=fast)
    assert logps_L.dtype == torch.float32
    torch.testing.assert_close(logps_L, expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("fast", [True, False])
def test_temperature_divides_the_logits(fast: bool) -> None:
    model, data = build("qwen2"), rows()
    expected = plain_logps(model, data, temperature=0.7)
    torch.testing.assert_close(token_logps(model, pack(data), temperature=0.7, fast=fast), expected)


@pytest.mark.parametrize("fast", [True, False])
def test_entropies_are_those_of_the_distributions(fast: bool) -> None:
    model, data = build("qwen2"), rows()
    _, entropies_L = token_logps_and_entropies(model, pack(data), fast=fast)
    expected = torch.distributions.Categorical(logits=plain_logits(model, data)).entropy()
    torch.testing.assert_close(entropies_L, expected)
    assert not entropies_L.requires_grad


def test_logits_in_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = build("qwen2"), pack(rows())
    expected_logps = token_logps(model, batch)
    expected = gradients(model, expected_logps, batch)
    monkeypatch.setattr(policy_forward, "LOGITS_KEPT", 10 * VOCABULARY)
    logps_L = token_logps(model, batch)
    torch.testing.assert_close(logps_L, expected_logps)
    torch.testing.assert_close(gradients(model, logps_L, batch), expected)


def test_micro_batches_add_up_to_the_batch() -> None:
    model, data = build("llama"), rows()
    whole = gradients(model, token_logps(model, pack(data)), pack(data))
    parts = [
        gradients(model, token_logps(model, b), b) for b in (pack(data, [0, 4, 9]), pack(data, [1, 2, 3, 5, 6, 7, 8]))
    ]
    torch.testing.assert_close({name: parts[0][name] + parts[1][name] for name in whole}, whole, rtol=1e-4, atol=1e-5)


def test_insisting_on_the_fast_path_outside_it_is_refused() -> None:
    with pytest.raises(ValueError, match="fast path"):
        token_logps(build("gpt2"), pack(rows()), fast=True)


def test_nothing_is_recorded_without_gradients() -> None:
    with torch.no_grad():
        assert not token_logps(build("qwen2"), pack(rows())).requires_grad
