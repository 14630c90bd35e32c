"""Stages of training on the bundled model: chains, their cache, time, and a model at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from agents.common.experiment import script_environment
from agents.common.training.publish import is_model
from agents.common.training.rl import Alarm
from agents.common.training.stages import chain_name, models_of
from agents.common.write_code import copy_code, write_code

SUPERVISED = {"method": "supervised", "steps": 3, "learning_rate": 1e-3, "batch": 4}
WORKFLOW = "rollout.workflow=tutorial.example_math_agent.math_agent_plain->PlainMathLearn"
RL = {
    "method": "rl",
    "steps": 2,
    "overrides": [WORKFLOW, "trainer.group_size=2", "trainer.prompts_per_step=2", "rollout.max_tokens=32"],
}


@pytest.fixture
def train(make_task, tmp_path):
    def run(stages: list[dict[str, Any]], scenario: str = "nano_countdown", seconds: float = 100.0, cache: bool = True):
        task = make_task(scenario)
        script = write_code(tmp_path / "code", "A test.", stages)
        report = tmp_path / "report.json"
        report.unlink(missing_ok=True)
        more = {"AUTORL_REPORT": str(report)} | ({"AUTORL_CACHE": str(tmp_path / "cache")} if cache else {})
        environment = script_environment(task, tmp_path / "model", seconds, **more)
        command = [sys.executable, str(script)]
        done = subprocess.run(command, env=environment, cwd=script.parent, capture_output=True, text=True, check=False)
        run.output = done.stdout + done.stderr
        return done.returncode, json.loads(report.read_text()) if report.is_file() else {}

    return run


def test_supervised_training_leaves_a_model_and_a_score(train, tmp_path):
    status, report = train([SUPERVISED])
    assert status == 0, train.output
    assert is_model(tmp_path / "model")
    assert 0 < report["score"] < 1
    assert [stage["steps"] for stage in report["stages"]] == [3]


def test_a_chain_that_begins_like_an_earlier_one_trains_only_what_is_new(train, tmp_path):
    _, first = train([SUPERVISED])
    kept = models_of(tmp_path / "cache", chain_name("", SUPERVISED))
    before = (kept / "model.safetensors").stat().st_mtime_ns
    status, report = train([SUPERVISED, SUPERVISED | {"learning_rate": 1e-4, "start": 3}])
    assert status == 0, train.output
    assert (kept / "model.safetensors").stat().st_mtime_ns == before
    assert report["score"] != first["score"]
    assert len(report["stages"]) == 2


def test_without_a_cache_the_whole_chain_begins_at_the_base_model(train):
    status, report = train([SUPERVISED, SUPERVISED | {"start": 3}], cache=False)
    assert status == 0, train.output
    assert len(report["stages"]) == 2


def test_without_a_single_step_there_is_no_model(train, tmp_path):
    status, report = train([SUPERVISED], seconds=1.0)
    assert status != 0
    assert report == {}
    assert not (tmp_path / "model").exists()


def test_a_method_that_does_not_exist_is_named(train):
    status, _ = train([SUPERVISED | {"method": "magic"}])
    assert status != 0
    assert "no training method 'magic'; known are rl and supervised" in train.output


@pytest.mark.slow
def test_reinforcement_learning_goes_on_in_the_same_stage(train, tmp_path):
    status, first = train([RL], "nano_gsm")
    assert status == 0, train.output
    status, second = train([RL | {"steps": 3}], "nano_gsm")
    assert status == 0, train.output
    assert len(second["history"]) == 3
    assert second["history"][:2] == first["history"]
    assert [path.name for path in (tmp_path / "cache" / "stages").iterdir()] != []
    assert len(list((tmp_path / "cache" / "stages").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage, scenario, begun",
    [(RL, "nano_gsm", "step 1/"), (SUPERVISED, "nano_countdown", "step 50 ")],
    ids=["rl", "supervised"],
)
def test_training_that_is_asked_to_end_leaves_what_it_has(make_task, tmp_path, stage, scenario, begun):
    task = make_task(scenario)
    script = write_code(tmp_path / "code", "A test.", [stage | {"steps": 1_000_000}])
    report, log = tmp_path / "report.json", tmp_path / "log"
    more = {"AUTORL_CACHE": str(tmp_path / "cache"), "AUTORL_REPORT": str(report)}
    environment = script_environment(task, tmp_path / "model", 300, **more)
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=stream, stderr=stream)
        ends_at = time.monotonic() + 240
        while begun not in log.read_text():
            assert time.monotonic() < ends_at, log.read_text()
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=120) == 0, log.read_text()
    assert 0 < json.loads(report.read_text())["stages"][0]["steps"] < 1_000_000
    assert is_model(tmp_path / "model")


def test_an_alarm_rings_until_its_block_ends_and_harms_nobody_who_does_not_listen():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("before"))
    try:
        with Alarm(0.0):
            time.sleep(0.3)  # long after the first ring
            signal.signal(signal.SIGTERM, lambda *_: heard.append("within"))
            ends_at = time.monotonic() + 60
            while not heard and time.monotonic() < ends_at:
                time.sleep(0.05)
        assert set(heard) == {"within"}
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard[-1] == "before"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_code_is_written_whole_and_copied_without_leftovers(tmp_path):
    write_code(tmp_path / "code", 'Says """this""" and a \\ backslash.', [SUPERVISED])
    compile((tmp_path / "code" / "train.py").read_text(), "train.py", "exec")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old.py").write_text("")
    copy_code(tmp_path / "code", tmp_path / "target")
    assert sorted(path.name for path in (tmp_path / "target").iterdir()) == ["train.py", "training"]
