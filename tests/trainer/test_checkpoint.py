"""Checkpoints are whole or absent, and hold everything a run needs to go on."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from astune.errors import CheckpointError
from astune.models.load import load_policy
from astune.trainer.checkpoint import CheckpointStore, TrainerState
from astune.trainer.optim import adamw


class Policy:
    """A tiny random model with an optimiser that has taken a step, and the bundled tokenizer."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        _, self.tokenizer = load_policy("nano", dtype=torch.float32, device=torch.device("cpu"))
        config = Qwen2Config(
            vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1,
        )  # fmt: skip
        self.model = Qwen2ForCausalLM(config)
        self.optimizer = adamw(self.model, 1e-2)
        self.train_once()

    def train_once(self) -> None:
        ids = torch.arange(12)[None]
        self.model(input_ids=ids, labels=ids).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def weights(self) -> torch.Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()])

    def save(self, store: CheckpointStore, step: int, best: int | None = None) -> Path:
        state = TrainerState(step=step, best_step=best, fingerprint={"seed": 0})
        return store.save(state, self.model, self.tokenizer, self.optimizer)


def test_a_restored_policy_trains_on_with_the_same_bits(tmp_path: Path) -> None:
    store, original = CheckpointStore(tmp_path), Policy(0)
    original.save(store, 1)
    other = Policy(1)
    store.load_weights(1, other.model)
    store.load_optimizer(1, other.optimizer)
    original.train_once()
    other.train_once()
    assert torch.equal(original.weights(), other.weights())


def test_transformers_reads_a_checkpoint(tmp_path: Path) -> None:
    policy = Policy()
    folder = policy.save(CheckpointStore(tmp_path), 3)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(loaded.lm_head.weight, policy.model.lm_head.weight)


def test_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    store, policy = CheckpointStore(tmp_path), Policy()
    for step in (1, 2, 3, 4):
        policy.save(store, step, best=2 if step >= 2 else None)
    assert store.steps() == [2, 4]
    assert store.latest() == 4


def test_a_half_written_folder_is_no_checkpoint(tmp_path: Path) -> None:
    store, policy = CheckpointStore(tmp_path), Policy()
    policy.save(store, 1)
    (tmp_path / ".writing-step_000002").mkdir()
    (tmp_path / "step_000003").mkdir()
    assert store.latest() == 1
    policy.save(store, 2)
    assert store.latest() == 2


def test_a_full_disk_leaves_the_previous_checkpoint_whole(tmp_path: Path) -> None:
    store, policy = CheckpointStore(tmp_path), Policy()
    policy.save(store, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))  # a write beyond it fails as on a full disk
    try:
        with pytest.raises(CheckpointError, match="could not save"):
            policy.save(store, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.steps() == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001"]
    store.load_weights(1, Policy(1).model)


def test_another_format_version_is_refused_by_name(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    Policy().save(store, 1)
    state = tmp_path / "step_000001" / "trainer_state.json"
    state.write_text(state.read_text().replace('"version": 1', '"version": 99'))
    with pytest.raises(CheckpointError, match="format version 99"):
        store.load_state(1)


def test_a_damaged_state_file_is_named(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    Policy().save(store, 1)
    (tmp_path / "step_000001" / "trainer_state.json").write_text("{")
    with pytest.raises(CheckpointError, match="step_000001"):
        store.load_state(1)
