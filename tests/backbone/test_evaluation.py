"""``astuner eval``: any model folder, a checkpoint of a run and an adapter are scored on a task file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from astune.models.nano import NANO_PATH
from tests.small_run import Astuner, Outcome, jsonl

RECORDS = [
    {"question": f"Tom has {n} eggs and buys {n + 2} more. How many eggs?", "answer": f"It is.\n#### {2 * n + 2}"}
    for n in range(3, 8)
]


@pytest.fixture
def tasks(astuner: Astuner) -> str:
    return f"--tasks={jsonl(astuner.folder / 'tasks.jsonl', *RECORDS)}"


def scores(done: Outcome) -> dict[str, Any]:
    """The last line of a command that ended well."""
    assert done.status == 0, done.err
    found: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    return found


def test_the_last_line_is_json_with_both_modes(astuner: Astuner, tasks: str) -> None:
    found = scores(astuner.evaluate(NANO_PATH, tasks))
    assert {mode: (row["n"], row["mode"]) for mode, row in found.items()} == {
        "sampled": (len(RECORDS), "sampled"),
        "greedy": (len(RECORDS), "greedy"),
    }


def test_people_read_one_line_a_mode(astuner: Astuner, tasks: str) -> None:
    lines = astuner.evaluate(NANO_PATH, tasks).out.splitlines()
    assert ["sampled:" in lines[-3], "greedy:" in lines[-2], f"of {len(RECORDS)}" in lines[-2]] == [True] * 3


def test_nothing_is_written(astuner: Astuner, tasks: str) -> None:
    scores(astuner.evaluate(NANO_PATH, tasks))
    assert not (astuner.folder / "runs").exists()


def test_without_a_file_the_held_out_problems_are_scored(astuner: Astuner) -> None:
    assert scores(astuner.evaluate(NANO_PATH, "evaluation.n_heldout=3"))["greedy"]["n"] == 3


def test_a_broken_task_file_is_named(astuner: Astuner) -> None:
    broken = jsonl(astuner.folder / "tasks.jsonl", RECORDS[0], "{")
    done = astuner.evaluate(NANO_PATH, f"--tasks={broken}")
    assert (done.status, "tasks.jsonl, line 2" in done.err) == (2, True)


def test_a_folder_that_is_no_model_is_named(astuner: Astuner, tmp_path: Path) -> None:
    done = astuner.evaluate(tmp_path, "evaluation.n_heldout=1")
    assert (done.status, f"{tmp_path} has no config.json" in done.err) == (2, True)


def test_a_checkpoint_scores_as_it_did_in_its_run(astuner: Astuner) -> None:
    heldout = ("evaluation.n_heldout=4", "evaluation.sampled=true", "evaluation.greedy=true")
    assert astuner(*heldout, "trainer.learning_rate=1e-3").status == 0
    in_run = {row.mode: row.to_row() | {"step": 0} for row in astuner.run.read_evaluations()}
    found = scores(astuner.evaluate(astuner.run.checkpoints / "step_000001", "evaluation.n_heldout=4"))
    assert found == in_run


LORA = ("model.lora.enabled=true", "model.lora.r=4", "trainer.learning_rate=1e-2")


@pytest.fixture
def adapters(astuner: Astuner) -> Path:
    """Checkpoints of a LoRA run of two steps."""
    done = astuner(*LORA, "trainer.steps=2", "trainer.group_size=4")
    assert done.status == 0, done.err
    return astuner.run.checkpoints


def test_a_lora_run_saves_its_adapter_alone(adapters: Path) -> None:
    names = {path.name for path in (adapters / "step_000002").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "trainer_state.json"} <= names
    assert "model.safetensors" not in names


def test_a_lora_run_trains_its_adapter(adapters: Path) -> None:
    weights = load_file(adapters / "step_000002" / "adapter_model.safetensors")
    assert any(bool(tensor.any()) for name, tensor in weights.items() if "lora_B" in name)  # 0 at the start


def test_a_lora_run_goes_on_as_if_it_had_not_stopped(astuner: Astuner, adapters: Path) -> None:
    steps = ("trainer.steps=3", "trainer.group_size=4")
    assert astuner(*LORA, *steps).status == 0
    assert astuner(*LORA, *steps, "name=whole").status == 0
    weights = "checkpoints/step_000003/adapter_model.safetensors"
    whole = astuner.run.path.with_name("whole")
    assert (astuner.run.path / weights).read_bytes() == (whole / weights).read_bytes()
    assert astuner.run.metrics.read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_an_adapter_is_scored_on_its_base(astuner: Astuner, adapters: Path, tasks: str) -> None:
    found = scores(astuner.evaluate(adapters / "step_000002", tasks))
    assert found["sampled"]["n"] == len(RECORDS)


def test_training_goes_on_from_an_adapter(astuner: Astuner, adapters: Path) -> None:
    done = astuner(f"model.path={adapters / 'step_000002'}", "name=next")
    assert done.status == 0, done.err
