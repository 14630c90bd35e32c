"""Adapters load as their base model with the adapter merged in, or say what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from astune.errors import ModelError
from astune.models.load import load_policy
from tests.rollout.fake_engine import small_tokenizer

IDS = torch.tensor([[5, 7, 11, 13]])


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(IDS).logits


@pytest.fixture
def base(tmp_path: Path) -> Path:
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                    num_attention_heads=2, num_key_value_heads=1)
    )  # fmt: skip
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def adapt(base: Path, folder: Path) -> Any:
    """Saves an adapter on ``base`` that changes something, and returns what the two compute together."""
    torch.manual_seed(1)
    model = get_peft_model(load_policy(base)[0], LoraConfig(r=2, task_type="CAUSAL_LM", init_lora_weights=False))
    model.eval().save_pretrained(str(folder))
    return logits(model)


def edit(adapter: Path, **fields: object) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_an_adapter_computes_what_it_did_when_it_was_saved(base: Path, tmp_path: Path) -> None:
    expected = adapt(base, tmp_path / "adapter")
    model, tokenizer = load_policy(tmp_path / "adapter")
    assert torch.allclose(logits(model), expected, atol=1e-5)
    assert not torch.allclose(logits(load_policy(base)[0]), expected, atol=1e-3)
    assert len(tokenizer) == model.config.vocab_size


def test_it_is_a_plain_model_that_can_be_trained(base: Path, tmp_path: Path) -> None:
    adapt(base, tmp_path / "adapter")
    model, _ = load_policy(tmp_path / "adapter")
    assert type(model) is Qwen2ForCausalLM
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_adapter_on_an_adapter_has_both(base: Path, tmp_path: Path) -> None:
    adapt(base, tmp_path / "first")
    expected = adapt(tmp_path / "first", tmp_path / "second")
    assert torch.allclose(logits(load_policy(tmp_path / "second")[0]), expected, atol=1e-5)


def test_a_missing_base_is_named_with_the_remedy(base: Path, tmp_path: Path) -> None:
    adapt(base, tmp_path / "adapter")
    shutil.rmtree(base)
    with pytest.raises(ModelError, match=rf"needs its base model {base}, .*set base_model_name_or_path in"):
        load_policy(tmp_path / "adapter")


def test_an_adapter_that_names_no_base_says_so(base: Path, tmp_path: Path) -> None:
    adapt(base, tmp_path / "adapter")
    edit(tmp_path / "adapter", base_model_name_or_path=None)
    with pytest.raises(ModelError, match="does not name its base model"):
        load_policy(tmp_path / "adapter")


def test_an_adapter_of_itself_is_refused(base: Path, tmp_path: Path) -> None:
    adapt(base, tmp_path / "adapter")
    edit(tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "adapter"))
    with pytest.raises(ModelError, match="names itself"):
        load_policy(tmp_path / "adapter")


def test_an_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    adapt(base, tmp_path / "adapter")
    edit(tmp_path / "adapter", r=3)
    with pytest.raises(ModelError, match="does not fit its base model"):
        load_policy(tmp_path / "adapter")


def test_a_broken_description_is_named(base: Path, tmp_path: Path) -> None:
    adapt(base, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"adapter_config\.json cannot be read"):
        load_policy(tmp_path / "adapter")


def test_an_adapter_without_weights_is_refused(base: Path, tmp_path: Path) -> None:
    adapt(base, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no weights; expected one of: adapter_model\.safetensors"):
        load_policy(tmp_path / "adapter")
