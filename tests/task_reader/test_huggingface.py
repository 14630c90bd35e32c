"""The huggingface_dat_repo reader, on real folders and caches; the hub itself is never reached."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from datasets.packaged_modules.parquet.parquet import Parquet

from astune.errors import TaskError
from astune.task_reader.huggingface_dat_repo import read_huggingface_dat_repo

ROWS = [{"question": "How much?", "answer": "9 * 2 = 18\n#### 18"}, {"question": "Profit?", "answer": "#### 70,000"}]
COMMIT = "a" * 40


def data(rows: list[dict[str, str]] = ROWS) -> datasets.Dataset:
    return datasets.Dataset.from_list(rows)


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Empty caches of the hub and of ``datasets``."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    return tmp_path


def write_hub_cache(root: Path) -> None:
    """Lays files out as huggingface_hub does after a download."""
    repo = root / "hub" / "datasets--openai--gsm8k"
    folder = repo / "snapshots" / COMMIT / "main"
    folder.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    data().to_parquet(folder / "train-00000-of-00001.parquet")


def write_datasets_cache(root: Path) -> None:
    """Lays files out as ``datasets`` does after load_dataset("openai/gsm8k", "main")."""
    source = root / "train.parquet"
    data().to_parquet(source)
    files = {"train": str(source)}
    builder = Parquet(
        cache_dir=str(root / "prepared"), dataset_name="gsm8k", config_name="main", hash="abc", data_files=files
    )
    builder.download_and_prepare()
    folder = root / "datasets" / "openai___gsm8k" / "main" / "0.0.0" / "abc"
    folder.parent.mkdir(parents=True)
    shutil.move(builder.cache_dir, folder)


@pytest.mark.parametrize("write_cache", [write_hub_cache, write_datasets_cache])
def test_a_cached_data_set_is_read_without_the_hub(caches: Path, write_cache: object) -> None:
    write_cache(caches)  # type: ignore[operator]
    tasks = read_huggingface_dat_repo("openai/gsm8k", subset="main", split="train")
    assert [(task.task_id, task.answer) for task in tasks] == [("gsm8k-train-1", "18"), ("gsm8k-train-2", "70000")]


def test_an_unknown_split_of_a_cached_data_set_names_the_known(caches: Path) -> None:
    write_hub_cache(caches)
    with pytest.raises(TaskError, match="no split 'dev'; it has 'train'"):
        read_huggingface_dat_repo("openai/gsm8k", split="dev")


def test_offline_and_not_cached_gives_the_command(caches: Path) -> None:
    with pytest.raises(TaskError, match="python scripts/download_dataset.py --target=openai/gsm8k --path=DIR"):
        read_huggingface_dat_repo("openai/gsm8k")


def test_the_command_names_another_subset(caches: Path) -> None:
    with pytest.raises(TaskError, match="--path=DIR --subset=socratic"):
        read_huggingface_dat_repo("openai/gsm8k", subset="socratic")


def test_a_name_that_cannot_be_one_is_refused(caches: Path) -> None:
    with pytest.raises(TaskError, match="no such folder, and no name of the hub"):
        read_huggingface_dat_repo("open ai/gsm8k")


def test_a_saved_data_set_with_splits_is_read(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": data(), "test": data(ROWS[:1])}).save_to_disk(str(tmp_path / "saved"))
    assert len(read_huggingface_dat_repo(tmp_path / "saved", split="test")) == 1


def test_a_saved_data_set_without_splits_is_read_whole(tmp_path: Path) -> None:
    data().save_to_disk(str(tmp_path / "saved"))
    assert len(read_huggingface_dat_repo(tmp_path / "saved")) == 2


def test_an_unknown_split_of_a_saved_data_set_names_the_known(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": data()}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(TaskError, match="no split 'test'; it has 'train'"):
        read_huggingface_dat_repo(tmp_path / "saved", split="test")


def test_a_damaged_saved_data_set_is_refused(tmp_path: Path) -> None:
    data().save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved" / "state.json").write_text("{}")
    with pytest.raises(TaskError, match="cannot be read"):
        read_huggingface_dat_repo(tmp_path / "saved")


@pytest.mark.parametrize("name", ["main/train-00000-of-00001.parquet", "train.parquet", "data/train/0.parquet"])
def test_a_folder_of_parquet_files_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    data().to_parquet(tmp_path / name)
    assert [task.answer for task in read_huggingface_dat_repo(tmp_path)] == ["18", "70000"]


def test_the_parts_of_a_split_are_read_in_order(tmp_path: Path) -> None:
    for part, row in enumerate(ROWS):
        data([row]).to_parquet(tmp_path / f"train-0000{part}-of-00002.parquet")
    assert [task.answer for task in read_huggingface_dat_repo(tmp_path)] == ["18", "70000"]


def test_a_folder_of_jsonl_files_is_read(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert len(read_huggingface_dat_repo(tmp_path, split="test", limit=1)) == 1


def test_a_bad_record_in_a_folder_is_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(ROWS[0]) + "\n{\n")
    with pytest.raises(TaskError, match=r"train\.jsonl, line 2: broken JSON"):
        read_huggingface_dat_repo(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [([], "no .parquet or .jsonl file"), (["train.jsonl", "test.jsonl"], "no split 'tset'.*did you mean 'test'")],
)
def test_a_folder_without_the_split_says_what_it_has(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).write_text(json.dumps(ROWS[0]) + "\n")
    with pytest.raises(TaskError, match=message):
        read_huggingface_dat_repo(tmp_path, split="tset")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="gsm8k: no such folder"):
        read_huggingface_dat_repo(tmp_path / "gsm8k")


def test_a_file_names_the_reader_for_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(TaskError, match="dataset_file"):
        read_huggingface_dat_repo(tmp_path / "a.jsonl")


def run_script(root: Path, caches: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"HF_HOME": str(caches), "HF_HUB_OFFLINE": "1", "PATH": "", "PYTHONPATH": str(root)}
    command = [sys.executable, str(root / "scripts" / "download_dataset.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_download_script_writes_a_folder_that_the_reader_reads(project_root: Path, tmp_path: Path) -> None:
    write_hub_cache(tmp_path)  # stands in for the hub
    target = tmp_path / "downloads"
    done = run_script(project_root, tmp_path, "--target=openai/gsm8k", f"--path={target}")
    assert done.returncode == 0, done.stderr
    assert str(target / "main" / "train.parquet") in done.stdout
    assert [task.answer for task in read_huggingface_dat_repo(target)] == ["18", "70000"]


def test_the_download_script_says_that_it_is_offline(project_root: Path, tmp_path: Path) -> None:
    done = run_script(project_root, tmp_path, "--target=openai/gsm8k", f"--path={tmp_path / 'downloads'}")
    assert (done.returncode, "the hub cannot be reached" in done.stderr) == (2, True)
    assert not (tmp_path / "downloads").exists()
