"""The sampler's own decoder computes what transformers computes, and steps aside where it would not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.utils import parametrize

from astune.models.decoder import FastDecoder
from astune.rollout.lean_decoder import LeanDecoder, decoder_for
from tests.models.test_decoder import MODELS, build, causal

IDS = torch.randint(0, 61, (2, 40), generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
def logits(decoder: FastDecoder, ids: Tensor) -> Tensor:
    positions = torch.arange(ids.shape[-1]).expand(ids.shape)
    return decoder.logits(decoder.hidden(ids, positions, causal(decoder)))


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_the_models_own(name: str) -> None:
    model = build(name)
    torch.testing.assert_close(logits(LeanDecoder(model), IDS), model(IDS).logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_plain_model_takes_it(name: str) -> None:
    assert isinstance(decoder_for(build(name)), LeanDecoder)


def test_unbatched_ids_give_unbatched_hidden_states() -> None:
    model = build("qwen2")
    torch.testing.assert_close(logits(LeanDecoder(model), IDS[0]), model(IDS).logits[0], atol=2e-5, rtol=1e-4)


def test_any_positions_in_any_order() -> None:
    model = build("qwen2-yarn")
    order = torch.randperm(40, generator=torch.Generator().manual_seed(5))
    expected = FastDecoder(model).hidden(IDS, order.expand(2, -1), causal(FastDecoder(model)))
    found = LeanDecoder(model).hidden(IDS, order.expand(2, -1), causal(FastDecoder(model)))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


class OwnLinear(nn.Linear):
    pass


def with_lora(model: Any) -> Any:
    return get_peft_model(model, LoraConfig(target_modules="all-linear"))


def with_a_hook(model: Any) -> Any:
    model.model.layers[1].mlp.register_forward_hook(lambda *_: None)
    return model


def with_a_parametrisation(model: Any) -> Any:
    parametrize.register_parametrization(model.model.layers[0].mlp.up_proj, "weight", Doubled())
    return model


def with_a_forward_of_its_own(model: Any) -> Any:
    model.model.norm.forward = lambda x: x
    return model


def with_a_subclass(model: Any) -> Any:
    model.model.layers[2].self_attn.o_proj.__class__ = OwnLinear
    return model


def with_another_activation(model: Any) -> Any:
    for layer in model.model.layers:
        layer.mlp.act_fn = nn.GELU()
    return model


def in_half_precision(model: Any) -> Any:
    return model.to(torch.bfloat16)


@pytest.mark.parametrize(
    "change",
    [
        with_lora,
        with_a_hook,
        with_a_parametrisation,
        with_a_forward_of_its_own,
        with_a_subclass,
        with_another_activation,
        in_half_precision,
    ],
)
def test_a_model_that_is_more_than_plain_keeps_its_modules(change: Any) -> None:
    assert type(decoder_for(change(build("qwen2")))) is FastDecoder


def test_what_it_does_not_support_is_refused() -> None:
    with pytest.raises(ValueError, match=r"LeanDecoder\.supports"):
        LeanDecoder(with_lora(build("qwen2")))
