"""The replay track from an agent's end to the score: the grader trains with the code, and what comes out counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from autorl_bench.grader.worker import Grader
from autorl_bench.scenarios.registry import load_scenario
from autorl_bench.store import Role, RunState, Track
from autorl_bench.store.records import Run
from tests.autorl_bench.small_bench import SmallBench, write_scenario

pytestmark = pytest.mark.slow

TRAIN = """\
import json, os, sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

base, output = Path(os.environ["AUTORL_BASE_MODEL"]), Path(os.environ["AUTORL_OUTPUT"])
assert float(os.environ["AUTORL_SECONDS_LEFT"]) > 0
assert len(Path(os.environ["AUTORL_TRAIN_DATA"]).read_text().splitlines()) == 12
assert "AUTORL_TOKEN" not in os.environ and "AUTORL_SERVER" not in os.environ
output.mkdir(parents=True, exist_ok=True)
state = load_file(base / "model.safetensors")
state["model.norm.weight"] *= np.float32({factor})
save_file(state, output / "model.safetensors", {{"format": "pt"}})
(output / "config.json").write_bytes((base / "config.json").read_bytes())
print("trained with seed", os.environ["AUTORL_SEED"])
"""


def ended(small: SmallBench, code: str | None, *, wall_seconds: float = 120, weights: dict | None = None) -> Run:
    """A run on the replay track whose agent left this code, and perhaps weights."""
    file = write_scenario(small.scenarios, ("wall_seconds: 120", f"wall_seconds: {wall_seconds:g}"), name="replayed")
    run, _ = small.bench.create(load_scenario(file), "tester", {}, track=Track.REPLAY, seed=11, isolation="kernel")
    (small.home.root / "assets/data/replayed").mkdir(parents=True, exist_ok=True)
    train = small.home.root / "assets/data/tiny/train.jsonl"
    (small.home.root / "assets/data/replayed/train.jsonl").write_text(train.read_text())
    small.bench.agent_started(run.id, 1, "kernel")
    if code is not None:
        (small.home.workspace(run.id) / "code" / "train.py").write_text(code)
    if weights is not None:
        small.model(run, **weights)
    small.bench.finish(run.id)
    grader = Grader(small.bench)
    while grader.work_once():
        pass
    small.check_honest()
    return small.run(run.id)


def log_of(small: SmallBench, run: Run, name: str) -> str:
    [file] = small.home.log(run.id).glob(f"replay-*/{name}")
    return file.read_text()


def test_code_alone_is_trained_and_what_it_trains_is_scored(small_bench: SmallBench) -> None:
    run = ended(small_bench, TRAIN.format(factor=1.001))
    assert run.state == RunState.SCORED, run.reasons
    assert "trained with seed 11" in log_of(small_bench, run, "stdout.log")
    assert small_bench.home.feedback(run.id).exists()
    assert not small_bench.evaluations(run.id, Role.CLAIMED)
    assert small_bench.flags(run.id) == []


def test_weights_that_the_code_bears_out_are_evaluated_and_not_flagged(small_bench: SmallBench) -> None:
    run = ended(small_bench, TRAIN.format(factor=1.001), weights={"nudge": 0.002})
    assert run.state == RunState.SCORED
    assert len(small_bench.evaluations(run.id, Role.CLAIMED)) == 1
    assert small_bench.flags(run.id) == []


def test_weights_that_claim_more_than_the_code_gives_are_flagged(small_bench: SmallBench) -> None:
    """The code's model says nothing; the weights beside it solve what can be solved."""
    run = ended(small_bench, TRAIN.format(factor=0), weights={"nudge": 0.002})
    assert run.state == RunState.SCORED
    assert "replay_differs" in small_bench.flags(run.id)
    [score] = small_bench.evaluations(run.id, Role.FINAL)
    assert score.evaluation.accuracy == 0, "the score is what the code gives"


def test_weights_beside_code_that_is_the_base_model_are_no_way_to_a_score(small_bench: SmallBench) -> None:
    run = ended(small_bench, TRAIN.format(factor=1.0), weights={"nudge": 0.002})
    assert "identical_to_base" in small_bench.flags(run.id)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (None, "train.py"),
        ("raise RuntimeError('the loss is gone')", "the loss is gone"),
        ("print('done, but nothing saved')", "model"),
        ("import sys; sys.exit(3)", "3"),
        ("import os; open(os.environ['AUTORL_BASE_MODEL'] + '/model.safetensors', 'w')", "Error"),
    ],
    ids=["missing", "crashing", "saving nothing", "giving up", "overwriting the base"],
)
def test_code_that_leaves_no_model_makes_the_run_invalid_with_the_reason(
    small_bench: SmallBench, code: str | None, said: str
) -> None:
    run = ended(small_bench, code, weights={"nudge": 0.002})
    assert run.state == RunState.INVALID
    assert said in run.reasons[0].message
    assert not small_bench.home.feedback(run.id).exists()


def test_code_that_never_ends_is_ended_with_the_budget(small_bench: SmallBench) -> None:
    run = ended(small_bench, "while True: pass", wall_seconds=6)
    assert run.state == RunState.INVALID
    assert "AUTORL_SECONDS_LEFT" in run.reasons[0].message


def test_a_checkpoint_beside_the_code_is_not_carried_along(small_bench: SmallBench) -> None:
    """What the agent left outside of code/ is not there when the code is replayed."""
    reads = "from pathlib import Path\nprint(Path('../output/model/config.json').read_text())\n"
    run = ended(small_bench, reads, weights={"nudge": 0.002})
    assert run.state == RunState.INVALID
    assert "FileNotFoundError" in run.reasons[0].message


def test_the_log_of_a_replay_is_kept_for_its_reader(small_bench: SmallBench, tmp_path: Path) -> None:
    run = ended(small_bench, "import sys; print('about to fail'); sys.exit('no data')")
    assert "about to fail" in log_of(small_bench, run, "stdout.log")
    assert "no data" in log_of(small_bench, run, "stderr.log")
