"""Two gloo processes, one of which has nothing wrong: nobody waits for nobody, and both train the same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from astune.refine.training.credit import Chain
from astune.trl.advantages import refined_advantages

TIME_LIMIT = 240.0


def launch(folder: Path, project_root: Path, kind: str) -> list[dict[str, Any]]:
    """Runs the worker on two processes; a hang fails, and leaves no process behind."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process = subprocess.Popen(
        [*command, str(project_root / "tests/trl/two_processes.py"), str(folder), kind],
        cwd=project_root,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(project_root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"still running after {TIME_LIMIT:.0f} s, probably waiting in a collective:\n{output[-4000:]}")
    assert process.returncode == 0, output[-4000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module", params=["replicated", "shared"])
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, project_root: Path
) -> tuple[str, Path, list[dict[str, Any]]]:
    """Whether the model counts as shared by the processes, the run's folder, and what each process reports."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, launch(folder, project_root, request.param)


@pytest.mark.slow
def test_both_processes_end_with_the_same_weights_and_finite_losses(run: Any) -> None:
    _, _, ranks = run
    assert [rank["world"] for rank in ranks] == [2, 2]
    assert ranks[0]["weights"] == ranks[1]["weights"]
    assert all(torch.isfinite(torch.tensor(rank["losses"])).all() for rank in ranks)
    assert ranks[0]["refined"] == 0 < ranks[1]["refined"]


@pytest.mark.slow
def test_the_idle_process_samples_only_with_a_model_that_all_share(run: Any) -> None:
    kind, _, ranks = run
    idle = ranks[0]["generated"]
    if kind == "shared":
        assert idle == ranks[1]["generated"]
    else:
        assert len(idle) == len(ranks[0]["rewards"])  # first attempts alone


@pytest.mark.slow
def test_tokens_are_counted_over_all_processes(run: Any) -> None:
    _, _, ranks = run
    for (mine, total), (theirs, other_total) in zip(ranks[0]["items"], ranks[1]["items"], strict=True):
        assert total == other_total == mine + theirs


@pytest.mark.slow
def test_a_task_on_two_processes_is_one_group(run: Any) -> None:
    _, folder, ranks = run
    rewards = [row for rank in ranks for row in rank["rewards"][0]]
    chains = [Chain(task=0, rewards=tuple(row)) for row in rewards]
    first = torch.zeros(len(chains))  # not used: the one task has refined rows
    expected = refined_advantages(first, chains, "group").tolist()
    assert ranks[0]["advantages"][0] + ranks[1]["advantages"][0] == pytest.approx(expected, abs=1e-6)
    log = [json.loads(line) for line in (folder / "self_refine_log.jsonl").read_text().splitlines()]
    assert [row["process"] for row in log[:8]] == [0] * 4 + [1] * 4
