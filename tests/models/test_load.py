"""Loading a policy, and what is said when it cannot be loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from astune.errors import ModelError
from astune.models.load import load_policy, resolve_model_path
from astune.models.nano import NANO_PATH
from astune.models.nano_refine import NANO_REFINE_PATH

WORDS = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole model folder: a tiny Qwen2 with 24 embeddings and a tokenizer of 20 words."""
    config = Qwen2Config(
        vocab_size=24,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, WORDS)
    return tmp_path


def save_tokenizer(folder: Path, words: int) -> None:
    ids = {"<|endoftext|>": 0} | {f"w{n}": n for n in range(1, words)}
    model = Tokenizer(WordLevel(ids, unk_token="<|endoftext|>"))
    PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<|endoftext|>").save_pretrained(folder)


def edit_config(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_folder_loads_in_eval_mode_and_in_the_dtype_asked_for(folder: Path) -> None:
    model, tokenizer = load_policy(folder, dtype=torch.bfloat16)
    assert (model.dtype, model.training, len(tokenizer)) == (torch.bfloat16, False, WORDS)


def test_nano_is_the_bundled_folder() -> None:
    assert resolve_model_path("nano") == NANO_PATH
    assert resolve_model_path("nano_refine") == NANO_REFINE_PATH


@pytest.mark.parametrize("path", ["./no/such", "/no/such/folder", "no_such_folder", Path("no/such")])
def test_a_missing_folder_is_named(path: str | Path) -> None:
    with pytest.raises(ModelError, match=rf"{path}.*does not exist"):
        load_policy(path)


def test_a_file_instead_of_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a file: give the folder"):
        load_policy(folder / "config.json")


def test_a_hub_name_that_is_not_cached_says_how_to_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="hf download nobody/no-such-model"):
        load_policy("nobody/no-such-model")


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_policy(tmp_path)


def test_a_folder_without_weights_names_the_files_expected(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no weights; expected one of: model\.safetensors, "):
        load_policy(folder)


def test_damaged_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(ModelError, match=r"weights in .* cannot be loaded"):
        load_policy(folder)


def test_weights_that_lack_a_tensor_are_refused_by_its_name(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors .*model\.norm\.weight"):
        load_policy(folder)


def test_weights_of_another_shape_than_the_config_are_refused(folder: Path) -> None:
    edit_config(folder, intermediate_size=16)
    with pytest.raises(ModelError, match=r"weights in .* cannot be loaded"):
        load_policy(folder)


def test_a_broken_config_is_named(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be used"):
        load_policy(folder)


def test_an_encoder_is_not_a_policy(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ModelError, match="t5 model, which is not a causal language model"):
        load_policy(folder)


def test_code_that_comes_with_a_model_is_not_run(folder: Path) -> None:
    marker = folder / "ran"
    (folder / "configuration_own.py").write_text(f"open({str(marker)!r}, 'w')")
    edit_config(folder, model_type="own", auto_map={"AutoConfig": "configuration_own.OwnConfig"})
    with pytest.raises(ModelError, match="code of their own"):
        load_policy(folder)
    assert not marker.exists()


def test_a_folder_without_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("token*"):
        path.unlink()
    with pytest.raises(ModelError, match="has no tokenizer"):
        load_policy(folder)


def test_a_tokenizer_of_another_vocabulary_is_refused_with_the_numbers(folder: Path) -> None:
    save_tokenizer(folder, words=30)
    with pytest.raises(ModelError, match="ids up to 29, but the model has embeddings for 24"):
        load_policy(folder)


def test_a_loaded_model_outlives_its_file(folder: Path) -> None:
    model, _ = load_policy(folder)
    before = [parameter.clone() for parameter in model.parameters()]
    weights = folder / "model.safetensors"
    with weights.open("r+b") as file:
        file.write(bytes(weights.stat().st_size))
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
