"""A run that was killed and started again is the run that never was: same weights, same metrics, to the bit."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

STEPS = 6
WORKFLOW = "tutorial.example_math_agent.math_agent_plain->PlainMathLearn"
LIMIT_SECONDS = 300


def command(folder: Path) -> list[str]:
    """The same small run in ``folder`` on the bundled model."""
    return [
        sys.executable, "-m", "astune.cli", "--conf", "tutorial/example_math_agent/math_agent.yaml",
        f"save_dir={folder}", "name=run", f"rollout.workflow={WORKFLOW}",
        f"trainer.steps={STEPS}", "trainer.prompts_per_step=2", "trainer.group_size=4", "trainer.threads=1",
        "trainer.learning_rate=1e-3", "evaluation.every=3", "evaluation.n_heldout=8", "checkpoint.every=2",
        "tracking.report=false",
    ]  # fmt: skip


#: The same with direct answers that are criticised and answered again.
REFINE = (
    "model.path=nano_refine", "rollout.workflow=astune.workflow.direct->DirectAnswer", "refine.enabled=true",
    "task_reader.nano_gsm.families=[running_week, profit]", "task_reader.nano_gsm.largest=40",
    "task_reader.nano_gsm.n_train=64", "rollout.max_tokens=48",
)  # fmt: skip


def start(folder: Path, overrides: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    line = [*command(folder), *overrides]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(line, stdout=log, stderr=log, env=os.environ | {"HF_HUB_OFFLINE": "1"})


def finish(folder: Path, overrides: Sequence[str] = ()) -> None:
    process = start(folder, overrides)
    try:
        assert process.wait(LIMIT_SECONDS) == 0, (folder / "log").read_text()
    finally:
        process.kill()


def outcome(folder: Path) -> dict[str, bytes]:
    """Everything that must be equal: metrics, evaluations, the last weights."""
    run = folder / "run"
    last = run / "checkpoints" / f"step_{STEPS:06d}"
    files = [run / "metrics.jsonl", run / "evaluations" / "results.jsonl", last / "model.safetensors"]
    return {path.name: path.read_bytes() for path in files}


def kill_when(folder: Path, reached: int, delay: float = 0.0, overrides: Sequence[str] = ()) -> None:
    """Starts the run and kills it ``delay`` seconds after its metrics have ``reached`` rows."""
    process = start(folder, overrides)
    metrics = folder / "run" / "metrics.jsonl"
    deadline = time.monotonic() + LIMIT_SECONDS
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if reached == 0 or (metrics.exists() and metrics.read_bytes().count(b"\n") >= reached):
                time.sleep(delay)
                break
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    finish(folder)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(finished: Path) -> dict[str, bytes]:
    return outcome(finished)


def test_two_runs_of_one_seed_are_equal(uninterrupted: dict[str, bytes], tmp_path: Path) -> None:
    finish(tmp_path)
    assert outcome(tmp_path) == uninterrupted


def test_killed_twice_and_started_again(uninterrupted: dict[str, bytes], tmp_path: Path) -> None:
    kill_when(tmp_path, reached=1)
    kill_when(tmp_path, reached=4)
    finish(tmp_path)
    assert outcome(tmp_path) == uninterrupted


def test_a_run_that_refines_is_killed_and_started_again(tmp_path: Path) -> None:
    finish(tmp_path / "whole", REFINE)
    kill_when(tmp_path / "killed", reached=3, delay=0.2, overrides=REFINE)
    finish(tmp_path / "killed", REFINE)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


def test_ctrl_c_saves_and_the_same_command_goes_on(uninterrupted: dict[str, bytes], tmp_path: Path) -> None:
    process = start(tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + LIMIT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= 3:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.005)
    assert process.wait(LIMIT_SECONDS) == 130, (tmp_path / "log").read_text()
    saved = [path.name for path in (tmp_path / "run" / "checkpoints").glob("step_*")]
    rows = metrics.read_bytes().count(b"\n")
    assert f"step_{rows:06d}" in saved  # the last whole step, not only every second one
    finish(tmp_path)
    assert outcome(tmp_path) == uninterrupted


@pytest.mark.slow
def test_killed_at_twenty_random_instants(uninterrupted: dict[str, bytes], tmp_path: Path) -> None:
    random.seed(20)
    for _ in range(20):
        kill_when(tmp_path, reached=0, delay=random.uniform(0.5, 14.0))
    finish(tmp_path)
    assert outcome(tmp_path) == uninterrupted


def test_another_seed_in_the_same_folder_is_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    done = subprocess.run([*command(tmp_path), "seed=7"], capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert done.returncode == 2
    assert "another seed" in done.stderr
    assert outcome(tmp_path) == outcome(finished)
