"""Every cheat that a folder can carry is refused or flagged by name; honest folders pass."""

import json
import os
import pickle
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from astune.errors import AstuneError
from astune.models.load import load_policy
from astune.models.nano import NANO_PATH
from astune.models.nano_refine import NANO_REFINE_PATH
from autorl_bench.submission import FlagCode, Invalid, Limits, prepare

EMBEDDING = "model.embed_tokens.weight"


def _flags(prepared):
    return [flag.code for flag in prepared.findings.verdict.flags]


def _notices(prepared):
    return [flag.code for flag in prepared.findings.notices]


# Honest folders.


def test_an_honest_folder_is_prepared_without_a_flag(arena):
    prepared = arena.prepared(siblings={"nano_refine": NANO_REFINE_PATH})
    assert prepared.findings.all == ()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_copy_in_half_precision_is_honest(arena, dtype):
    model, _ = load_policy(arena.model)
    model.to(dtype).save_pretrained(arena.model)
    assert arena.prepared(siblings={"nano_refine": NANO_REFINE_PATH}).findings.all == ()


def test_shards_are_honest_and_load_to_the_same_weights(arena):
    model, _ = load_policy(arena.model)
    (arena.model / "model.safetensors").unlink()
    model.save_pretrained(arena.model, max_shard_size="1MB")
    assert (arena.model / "model.safetensors.index.json").is_file()
    loaded, _ = load_policy(arena.prepared().folder)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_what_transformers_trainer_leaves_beside_the_model_is_honest(arena):
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"):
        (arena.model / name).write_bytes(pickle.dumps({}))
    (arena.model / "checkpoint-10").mkdir()
    assert "training_args.bin" in arena.prepared().copied.ignored


def test_a_tied_head_that_was_saved_too_is_honest(arena):
    arena.change_weights(lambda state: state | {"lm_head.weight": state[EMBEDDING].clone()})
    loaded, _ = load_policy(arena.prepared().folder)
    assert torch.equal(loaded.get_output_embeddings().weight, loaded.get_input_embeddings().weight)


def test_settings_of_training_and_versions_in_the_configuration_are_honest(arena):
    arena.change_config(use_cache=False, transformers_version="4.1", torch_dtype="bfloat16", attention_dropout=0.1)
    arena.prepared()


def test_a_low_rank_change_merged_into_the_weights_is_honest_and_its_rank_is_told(arena):
    model = AutoModelForCausalLM.from_pretrained(NANO_PATH)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    adapted.merge_and_unload().save_pretrained(arena.model)
    provenance = arena.prepared().provenance
    ranks = {change.name.split(".")[-2]: change.rank for change in provenance.tensors if change.relative}
    assert ranks == {"q_proj": 4}


def test_the_same_submission_twice_is_kept_once(arena):
    assert arena.prepared().folder == arena.prepared().folder
    assert len(list((arena.vault / "submitted").iterdir())) == 1


# What decides how the model runs is the base's.


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
)
def test_a_submitted_answer_table_or_decoding_trick_has_no_effect(arena, name):
    (arena.model / name).write_text('{"temperature": 9, "answers": {"q": "18"}}')
    assert (arena.prepared().folder / name).read_bytes() == (NANO_PATH / name).read_bytes()


def test_the_configuration_that_is_evaluated_is_the_base_models(arena):
    arena.change_config(pad_token_id=3, initializer_range=9.0)
    assert (arena.prepared().folder / "config.json").read_bytes() == (NANO_PATH / "config.json").read_bytes()


def test_an_additional_template_folder_is_not_entered(arena):
    (arena.model / "additional_chat_templates").mkdir()
    (arena.model / "additional_chat_templates" / "default.jinja").write_text("18")
    assert not (arena.prepared().folder / "additional_chat_templates").exists()


# Attacks.


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "x.pkl", "weights.ckpt", "pytorch_model.bin.index.json"]
)
def test_pickles_are_refused_and_never_opened(arena, name):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(arena.workspace / "ran"),)

    (arena.model / name).write_bytes(pickle.dumps(Bomb()))
    assert arena.refusal() == "pickle"
    assert not (arena.workspace / "ran").exists()


@pytest.mark.parametrize("name", ["modeling_nano.py", "custom.so", "run.sh", "MODELING.PY"])
def test_code_is_refused(arena, name):
    (arena.model / name).write_text("import os")
    assert arena.refusal() == "code"


def test_auto_map_is_refused(arena):
    arena.change_config(auto_map={"AutoModelForCausalLM": "modeling_nano.Model"})
    assert arena.refusal() == "config_code"


def test_auto_map_deep_inside_is_refused(arena):
    arena.change_config(rope_parameters={"rope_theta": 10000.0, "inner": [{"auto_map": {}}]})
    assert arena.refusal() == "config_code"


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["LlamaForCausalLM"]},
        {"model_type": "llama"},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": True},
        {"vocab_size": 1400},
        {"rope_parameters": {"rope_theta": 1.0, "rope_type": "default"}},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
        {"tie_word_embeddings": False},
        {"max_position_embeddings": 10**9},
        {"unknown_key": 1},
        {"architectures": None},
    ],
    ids=str,
)
def test_another_architecture_is_refused(arena, change):
    arena.change_config(**change)
    assert arena.refusal() == "config_differs"


def test_a_key_that_the_scenario_leaves_free_is_accepted(arena):
    arena.change_config(unknown_key=1)
    arena.prepared(limits=Limits(ignored_config_keys=("unknown_key",)))


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": 1, "a": 2}', "[" * 100_000, '{"a": NaN}', '{"a":' * 50 + "1" + "}" * 50]
)
def test_a_malformed_configuration_is_refused(arena, text):
    (arena.model / "config.json").write_text(text)
    assert arena.refusal() == "bad_config"


def test_no_configuration_is_refused(arena):
    (arena.model / "config.json").unlink()
    assert arena.refusal() == "no_config"


def test_no_weights_are_refused(arena):
    (arena.model / "model.safetensors").unlink()
    assert arena.refusal() == "no_weights"


def test_an_adapter_is_refused_with_the_way_to_merge_it(arena):
    model = AutoModelForCausalLM.from_pretrained(NANO_PATH)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(arena.model)
    assert arena.refusal() == "adapter"
    assert "merge_and_unload" in Invalid.ADAPTER.sentence


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(arena, value):
    def spoil(state):
        state[EMBEDDING][700, 7] = value

    arena.change_weights(spoil)
    assert arena.refusal() == "not_finite"


def test_an_oversized_tensor_is_refused(arena):
    arena.change_weights(lambda state: state | {"model.norm.weight": torch.ones(200)})
    assert arena.refusal() == "tensor_shape"


def test_a_vector_with_the_right_number_of_values_in_another_shape_is_refused(arena):
    arena.change_weights(lambda state: state | {EMBEDDING: state[EMBEDDING].T.contiguous()})
    assert arena.refusal() == "tensor_shape"


def test_a_missing_tensor_is_refused(arena):
    arena.change_weights(lambda state: {name: state[name] for name in state if name != "model.norm.weight"})
    assert arena.refusal() == "tensor_names"


def test_one_tensor_more_is_refused(arena):
    arena.change_weights(lambda state: state | {"answers": torch.ones(5)})
    assert arena.refusal() == "tensor_names"


@pytest.mark.parametrize("dtype", [torch.float64, torch.int8, torch.int64])
def test_another_type_is_refused(arena, dtype):
    arena.change_weights(lambda state: state | {"model.norm.weight": state["model.norm.weight"].to(dtype)})
    assert arena.refusal() == "tensor_dtype"


def test_a_head_of_its_own_where_the_base_ties_it_is_refused(arena):
    arena.change_weights(lambda state: state | {"lm_head.weight": state[EMBEDDING] + 1})
    assert arena.refusal() == "untied_head"


def test_a_damaged_file_is_refused(arena):
    os.truncate(arena.model / "model.safetensors", 100_000)
    assert arena.refusal() == "bad_safetensors"


def test_a_sparse_file_of_100_gb_is_refused(arena):
    os.truncate(arena.model / "model.safetensors", 100 * 2**30)
    assert arena.refusal() == "too_large"


def test_a_link_to_the_base_model_is_refused(arena):
    shutil.rmtree(arena.model)
    arena.model.symlink_to(NANO_PATH)
    assert arena.refusal() == "link"


def test_a_link_to_the_base_models_weights_is_refused(arena):
    (arena.model / "model.safetensors").unlink()
    (arena.model / "model.safetensors").symlink_to(NANO_PATH / "model.safetensors")
    assert arena.refusal() == "link"


def test_a_weights_file_that_loaders_would_take_for_the_whole_is_refused(arena):
    state = load_file(arena.model / "model.safetensors")
    names = sorted(state)
    parts = {"model.safetensors": names[:5], "x.safetensors": names[5:]}
    for file, held in parts.items():
        save_file({name: state[name] for name in held}, arena.model / file)
    weight_map = {name: file for file, held in parts.items() for name in held}
    (arena.model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert arena.refusal() == "bad_index"


def test_a_hard_link_to_other_weights_is_refused(arena, tmp_path):
    shutil.copy(NANO_PATH / "model.safetensors", tmp_path / "hidden.safetensors")
    (arena.model / "model.safetensors").unlink()
    (arena.model / "model.safetensors").hardlink_to(tmp_path / "hidden.safetensors")
    assert arena.refusal() == "link"


def test_a_link_that_nobody_asked_for_is_refused(arena):
    (arena.model / "notes.txt").symlink_to("/etc/passwd")
    assert arena.refusal() == "link"


@pytest.mark.parametrize(
    "path", ["../../../vault", "/etc", "output/model/../../../nano_gsm_2", "workspace/nano_gsm_2/output/model"]
)
def test_a_path_outside_the_workspace_is_refused(arena, path):
    assert arena.refusal(path) == "outside_workspace"


def test_a_path_with_nothing_there_is_refused(arena):
    assert arena.refusal("output/other") == "not_found"


def test_a_path_to_a_file_is_refused(arena):
    assert arena.refusal("output/model/config.json") == "not_a_folder"


def test_a_refused_submission_leaves_nothing_in_the_vault(arena):
    arena.change_weights(lambda state: state | {"answers": torch.ones(5)})
    arena.refusal()
    assert [file for file in arena.vault.rglob("*") if file.is_file()] == []


def test_the_base_model_itself_is_named(arena):
    shutil.copy(NANO_PATH / "model.safetensors", arena.model)
    assert _notices(arena.prepared()) == [FlagCode.IDENTICAL_TO_BASE]


def test_the_base_model_in_another_precision_is_named(arena):
    model, _ = load_policy("nano")
    model.to(torch.bfloat16).save_pretrained(arena.model)
    assert _notices(arena.prepared()) == [FlagCode.IDENTICAL_TO_BASE]


def test_the_base_model_with_a_little_noise_is_named(arena):
    base = load_file(NANO_PATH / "model.safetensors")
    noisy = {name: tensor * (1 + 1e-6 * torch.randn_like(tensor)) for name, tensor in base.items()}
    save_file(noisy, arena.model / "model.safetensors")
    assert _notices(arena.prepared()) == [FlagCode.NEAR_COPY_OF_BASE]


def test_a_sibling_model_of_another_size_is_refused(arena):
    shutil.rmtree(arena.model)
    shutil.copytree(NANO_REFINE_PATH, arena.model, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    assert arena.refusal() == "config_differs"


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_a_sibling_model_made_to_fit_or_mixed_in_is_flagged(arena, share):
    """nano_refine's layers in place of the base's; its embedding is of another vocabulary."""
    sibling = load_file(NANO_REFINE_PATH / "model.safetensors")

    def graft(state):
        base = load_file(NANO_PATH / "model.safetensors")
        fitting = [name for name in state if name in sibling and sibling[name].shape == state[name].shape]
        return base | {name: torch.lerp(base[name], sibling[name], share) for name in fitting}

    arena.change_weights(graft)
    assert _flags(arena.prepared(siblings={"nano_refine": NANO_REFINE_PATH})) == [FlagCode.SIBLING_MODEL]


def test_a_base_model_that_is_damaged_is_a_failure_of_ours_and_no_refusal(arena, tmp_path):
    shutil.copytree(NANO_PATH, tmp_path / "base", ignore=shutil.ignore_patterns("__pycache__"))
    os.truncate(tmp_path / "base" / "model.safetensors", 1000)
    with pytest.raises(AstuneError, match="registered model"):
        prepare("output/model", arena.workspace, tmp_path / "base", Limits(), vault=arena.vault)


def test_every_reason_has_a_sentence():
    assert all(reason.sentence.endswith(".") for reason in Invalid)


def test_what_is_kept_of_the_provenance_is_json(arena):
    json.dumps(arena.prepared().provenance.to_json(), allow_nan=False)
