"""A model is handed in whole, as real files, with nothing but model files."""

import shutil

import pytest

from agents.common.training.publish import is_model, publish_model
from astune.errors import CheckpointError, ModelError
from astune.models.nano import NANO_PATH


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(NANO_PATH, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__", "*.md"))
    (folder / "optimizer.pt").write_bytes(b"momentum")
    (folder / "trainer_state.json").write_text("{}")
    return folder


def test_only_model_files_are_copied(checkpoint, tmp_path):
    target = tmp_path / "output" / "model"
    publish_model(checkpoint, target)
    names = {path.name for path in target.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= names
    assert not names & {"optimizer.pt", "trainer_state.json"}


def test_a_link_becomes_a_file(checkpoint, tmp_path):
    weights = checkpoint / "model.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    publish_model(checkpoint, tmp_path / "model")
    assert not (tmp_path / "model" / "model.safetensors").is_symlink()


def test_the_whole_folder_is_replaced(checkpoint, tmp_path):
    target = tmp_path / "model"
    publish_model(checkpoint, target)
    (target / "left_over.json").write_text("{}")
    (checkpoint / "config.json").write_text('{"new": true}')
    publish_model(checkpoint, target)
    assert (target / "config.json").read_text() == '{"new": true}'
    assert not (target / "left_over.json").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_no_model_is_refused_and_the_old_one_stays(checkpoint, tmp_path):
    target = tmp_path / "model"
    publish_model(checkpoint, target)
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no model"):
        publish_model(checkpoint, target)
    assert is_model(target)


def test_a_target_that_cannot_be_written_is_said(checkpoint, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError):
        publish_model(checkpoint, tmp_path / "file" / "model")
    assert is_model(checkpoint)
