"""The extra's pin, the check at import, and the parts of TRL that the trainer builds on."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from trl import GRPOTrainer as TrlTrainer
from trl.trainer import utils

from astune.errors import ConfigError
from astune.trl.layout import LOGPROB_FIELDS, TYPE_ID_FIELDS
from astune.trl.version import SUPPORTED, check_trl
from tests.trl.conftest import Trainers, first_batch

#: Methods of TRL's trainer that are called or overridden, with the parameters that are relied on.
METHODS = {
    "_generate_and_score_completions": ["self", "inputs"],
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_tokenize_prompts": ["self", "prompts"],
    "_generate_single_turn": ["self", "prompt_ids", "images", "multimodal_fields", "num_generations"],
    "_get_per_token_logps_and_entropies": [
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
    ],
}
#: Functions of TRL that must do what they did.
FUNCTIONS = {
    "split_pixel_values_by_grid": ["batch"],
    "unsplit_pixel_values_by_grid": ["batch"],
    "split_tensor_dict": ["tensor_dict", "num_chunks"],
    "shuffle_sequence_dict": ["seq_dict"],
    "use_adapter": ["model", "adapter_name"],
}
#: What TRL's trainer keeps, and the stage reads.
ATTRIBUTES = (
    "_dist",
    "_metrics",
    "_pending_extra_logs",
    "_pending_metrics",
    "_tokenizer",
    "accelerator",
    "environment_factories",
    "eos_token_ids",
    "mask_truncated_completions",
    "max_completion_length",
    "num_generations",
    "num_generations_eval",
    "pad_to_multiple_of",
    "processing_class",
    "ref_model",
    "reward_func_names",
    "reward_weights",
    "scale_rewards",
    "tools",
    "use_vllm",
    "vllm_importance_sampling_clip_max",
    "vllm_importance_sampling_clip_min",
    "vllm_importance_sampling_mode",
)
MOVED = "TRL has moved: read its grpo_trainer.py again, then adapt astune/trl and this list"


@pytest.mark.parametrize(("name", "expected"), METHODS.items())
def test_methods_take_what_we_give_them(name: str, expected: list[str]) -> None:
    method = getattr(TrlTrainer, name, None)
    assert method is not None, f"{name} is gone. {MOVED}"
    found = list(inspect.signature(inspect.unwrap(method)).parameters)
    assert found[: len(expected)] == expected, MOVED


@pytest.mark.parametrize(("name", "expected"), FUNCTIONS.items())
def test_functions_take_what_we_give_them(name: str, expected: list[str]) -> None:
    function = getattr(utils, name, None)
    assert function is not None, f"{name} is gone. {MOVED}"
    assert list(inspect.signature(function).parameters)[: len(expected)] == expected, MOVED


def test_the_batch_has_the_fields_that_we_replace(text_trainer: Trainers) -> None:
    trainer = text_trainer(TrlOptionsDropped, args={"beta": 0.1})
    missing = [name for name in ATTRIBUTES if not hasattr(trainer, name)]
    assert not missing, f"{missing} are gone. {MOVED}"
    batch = trainer._generate_and_score_completions(first_batch(trainer))
    assert set(batch) == {
        "prompt_ids",
        "prompt_mask",
        "completion_ids",
        "completion_mask",
        "advantages",
        "num_items_in_batch",
        "old_per_token_logps",
        "ref_per_token_logps",
    }, MOVED
    assert {key: batch[key].dim() for key in ("advantages", "num_items_in_batch")} == {
        "advantages": 1,
        "num_items_in_batch": 0,
    }, MOVED


class TrlOptionsDropped(TrlTrainer):
    def __init__(self, *args: Any, enable_self_refine: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


def test_every_row_field_that_trl_can_return_is_known() -> None:
    source = inspect.getsource(TrlTrainer._generate_and_score_completions)
    returned = {line.split('"')[1] for line in source.splitlines() if line.strip().startswith('output["')}
    images = {"pixel_values", "image_grid_thw", "pixel_attention_mask", "spatial_shapes", "image_sizes"}
    images |= {"image_position_ids", "num_images", "num_tiles"}
    recomputed = {"importance_sampling_ratio"}
    assert returned == {*TYPE_ID_FIELDS, *LOGPROB_FIELDS, *images, *recomputed, "tool_mask"}, MOVED


def test_the_extra_pins_the_version_that_is_checked(project_root: Path) -> None:
    extras = tomllib.loads((project_root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    major, minor = SUPPORTED
    assert extras["trl"] == [f"trl>={major}.{minor},<{major}.{minor + 1}"]


@pytest.mark.parametrize("version", ["1.15.3", "1.17.0", "2.16.0"])
def test_another_version_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match=rf"TRL 1\.16, and TRL {version} is installed: pip install"):
        check_trl(version)


@pytest.mark.parametrize("version", ["1.16.0", "1.16.4"])
def test_the_supported_version_passes(version: str) -> None:
    check_trl(version)


def test_without_trl_the_import_says_what_to_install() -> None:
    hidden = (
        "import importlib.metadata as metadata\n"
        "def version(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = version\n"
        "import astune.trl\n"
    )
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=False)
    assert 'astune.trl needs TRL 1.16, which is not installed: pip install "trl==1.16.*"' in done.stderr
