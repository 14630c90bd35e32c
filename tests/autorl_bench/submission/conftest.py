"""A trained copy of the bundled model, saved as agents save theirs, and a fresh workspace and vault for each test."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from astune.models.load import load_policy
from astune.models.nano import NANO_PATH
from autorl_bench.submission import Limits, Prepared, Refused, prepare

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Arena:
    """One run's workspace (with a trained model in output/model) and the grader's vault."""

    workspace: Path
    vault: Path

    @property
    def model(self) -> Path:
        return self.workspace / "output" / "model"

    def submit(self, path: str = "output/model", **options) -> Prepared | Refused:
        limits = options.pop("limits", Limits())
        return prepare(path, self.workspace, NANO_PATH, limits, vault=self.vault, **options)

    def refusal(self, path: str = "output/model", **options) -> str:
        outcome = self.submit(path, **options)
        assert isinstance(outcome, Refused), "accepted"
        assert outcome.reason.code == outcome.code.value
        assert outcome.code.sentence in outcome.reason.message
        return outcome.code.value

    def prepared(self, path: str = "output/model", **options) -> Prepared:
        outcome = self.submit(path, **options)
        assert isinstance(outcome, Prepared), outcome.reason.message
        return outcome

    def change_weights(self, change: Callable[[State], State | None]) -> None:
        """Writes the model file anew with what ``change`` makes of its tensors."""
        file = self.model / "model.safetensors"
        state = load_file(file)
        save_file(change(state) or state, file, metadata={"format": "pt"})

    def change_config(self, **values: object) -> None:
        file = self.model / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The bundled model after one real optimizer step, with its tokenizer, as save_pretrained writes them."""
    folder = tmp_path_factory.mktemp("trained")
    model, tokenizer = load_policy("nano")
    ids = torch.arange(40).view(2, 20)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def arena(tmp_path, trained) -> Arena:
    arena = Arena(tmp_path / "bench" / "workspace" / "nano_gsm_1", tmp_path / "vault")
    shutil.copytree(trained, arena.model)
    return arena
