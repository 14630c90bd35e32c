"""Coding agents of the command line, with small scripted commands in their place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.common.training.publish import is_model

SCRIPT = Path(__file__).parents[2] / "agents" / "command_line" / "agent.py"


@pytest.fixture
def start(make_task, tmp_path):
    def run(code: str, seconds: float = 60.0, **arguments: Any) -> subprocess.CompletedProcess[str]:
        task = make_task()
        (task.workspace / "README.md").write_text("# Make the model better\n")
        command = tmp_path / "coder"
        command.write_text(f"#!{sys.executable}\n{code}\n")
        command.chmod(0o755)
        environment = dict(os.environ) | {
            "AUTORL_RUN": "run",
            "AUTORL_SCENARIO": task.scenario,
            "AUTORL_WORKSPACE": str(task.workspace),
            "AUTORL_BASE_MODEL": str(task.base_model),
            "AUTORL_TRAIN_DATA": str(task.train_data),
            "AUTORL_TRACK": "weights",
            "AUTORL_SEED": "0",
            "AUTORL_BUDGET": json.dumps({"wall_seconds": 60, "cpu_seconds": 60}),
            "AUTORL_ARGUMENTS": json.dumps({"command": f"{command} -p"} | arguments),
            "AUTORL_SECONDS_LEFT": str(seconds),
        }
        run.workspace = task.workspace
        return subprocess.run([sys.executable, SCRIPT], env=environment, capture_output=True, text=True, check=False)

    return run


def test_the_command_gets_the_task_as_its_last_argument(start):
    done = start("import sys\nprint(sys.argv[1], '|', sys.argv[-1])")
    assert done.returncode == 0, done.stderr
    assert "-p | You are alone with this task" in done.stdout
    assert "# Make the model better" in done.stdout


def test_or_by_its_standard_input(start):
    done = start("import sys\nprint(len(sys.argv), sys.stdin.read())", prompt="stdin")
    assert "2 You are alone with this task" in done.stdout


def test_what_the_command_leaves_is_handed_in(start):
    code = """
import os, shutil
shutil.copytree(os.environ["AUTORL_BASE_MODEL"], "output/model")
open("output/model/mine", "w").write("x")
"""
    assert start(code).returncode == 0
    assert (start.workspace / "output" / "model" / "mine").exists()


def test_without_a_model_of_its_own_the_base_is_handed_in(start):
    start("print('nothing done')")
    assert is_model(start.workspace / "output" / "model")


def test_a_command_that_fails_is_said_with_its_output(start):
    done = start("raise SystemExit('no credit left')")
    assert done.returncode == 1
    assert "no credit left" in done.stdout
    assert "the command failed with status 1" in done.stderr


def test_a_command_that_never_ends_is_ended_with_its_children(start):
    code = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open("child", "w").write(str(child.pid))
time.sleep(60)
"""
    done = start(code, seconds=7.0)
    assert "was ended after" in done.stderr
    child = int((start.workspace / "child").read_text())
    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().rsplit(") ", 1)[1][0] == "Z"
    assert is_model(start.workspace / "output" / "model")


@pytest.mark.parametrize(
    "command, said", [(None, "name a command"), ("no-such-programme -p", "there is no programme no-such-programme")]
)
def test_a_command_that_is_not_there_is_an_error_that_says_what_to_do(start, command, said):
    done = start("", command=command)
    assert done.returncode == 2
    assert said in done.stderr
