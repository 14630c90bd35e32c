"""Each bundled agent against the real server, in its sandbox, on a small scenario and a small budget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agents.common import jsonl
from tests.agents.fake_endpoint import answer
from tests.agents.rdagent.conftest import training

SCENARIO = """\
title: Word problems, a few
base_model_path: assets/models/nano
train_data_path: assets/data/small_gsm/train.jsonl
baseline_score: 45.0
metric: accuracy
base_model: {bundled: nano}
source: {type: generator, generator: nano_gsm}
n: {train: 512, dev: 8, test: 8, twin: 8}
episode: {kind: workflow, workflow: tutorial.example_math_agent.math_agent_plain->PlainMathLearn, max_turns: 6}
generation: {max_tokens: 192}
checker: math
budget: {wall_seconds: 240, cpu_seconds: 480, memory_gib: 4, disk_gib: 2, submissions: 3, dev_queries: 3}
seed: 7
recipes:
  - name: grpo
    conf: tutorial/example_math_agent/math_agent.yaml
    overrides:
      - rollout.workflow=tutorial.example_math_agent.math_agent_plain->PlainMathLearn
      - trainer.prompts_per_step=2
      - trainer.group_size=4
      - trainer.steps=3
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(tmp_path):
    """Runs an agent; its workspace, its feedback, and what the operator saw."""
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "small_gsm.yaml").write_text(SCENARIO)

    def run(agent: str, *options: str, **environment: str) -> tuple[Path, dict[str, float], str]:
        command = [sys.executable, "-m", "autorl_bench", "run", "--home", str(tmp_path / "home")]
        command += ["--scenarios", str(tmp_path / "scenarios"), "--scenario", "small_gsm", "--seeds", "1"]
        command += ["--agent", agent, *options]
        done = subprocess.run(
            command, env=dict(os.environ) | environment, capture_output=True, text=True, check=False, timeout=900
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        [workspace] = (tmp_path / "home" / "workspace").iterdir()
        logs = (tmp_path / "home" / "log").glob("*/agent-*/*.log")
        said += "".join(path.read_text() for path in logs)
        feedback = tmp_path / "home" / "results" / workspace.name / "feedback.json"
        assert feedback.is_file(), said
        return workspace, json.loads(feedback.read_text()), said

    return run


def test_doing_nothing_gains_nothing(bench):
    _, feedback, _ = bench("do_nothing")
    assert feedback["score"] == feedback["baseline"]


def test_the_reference_recipe_stops_in_time_and_hands_in_a_trained_model(bench):
    workspace, feedback, said = bench("reference_recipe")
    assert (workspace / "report.json").is_file(), said
    assert json.loads((workspace / "report.json").read_text())["stages"][0]["steps"] == 3
    assert set(feedback) == {"baseline", "score"}


def test_random_search_keeps_what_it_drew(bench):
    workspace, _, said = bench("random_search", "--set", "steps=1", "--set", "draws=1")
    rows = jsonl.read(workspace / "results.jsonl")
    assert rows, said
    assert all("learning_rate" in row["recipe"] for row in rows)


def test_the_search_of_rdagent_tells_its_hypotheses_and_hands_in_a_model(bench):
    workspace, _, said = bench("rdagent", "--budget", "150s", "--set", "rounds=1")
    events = [row["event"] for row in jsonl.read(workspace / "journal.jsonl")]
    assert "ended" in events, said
    assert events[-1] == "stopped"
    assert "trial 1 (round 1)" in said
    assert "could not be delivered" not in said


def test_a_language_model_at_a_declared_endpoint_is_reached_from_the_sandbox(bench, endpoint):
    server = endpoint([answer(training(0.5)), "no more", 401])
    environment = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "key", "OPENAI_MODEL": "m"}
    workspace, _, said = bench("rdagent", "--set", "driver=llm", **environment)
    assert "On dev it scored" in said
    assert len(server.asked) == 3
    assert [row["event"] for row in jsonl.read(workspace / "journal.jsonl")][-1] == "stopped"


def test_recorded_answers_are_played_again(bench):
    workspace, _, said = bench("rdagent", "--set", "driver=replay", "--set", "record=recorded/small.jsonl")
    trials = [row for row in jsonl.read(workspace / "journal.jsonl") if row["event"] == "ended"]
    assert len(trials) == 2, said


def test_a_coding_agent_of_the_command_line_is_run(bench):
    command = "/bin/sh -c 'cp -r $AUTORL_BASE_MODEL output_model && mkdir -p output && mv output_model output/model' sh"
    _, feedback, said = bench("command_line", "--set", f"command={json.dumps(command)}")
    assert "the command ended with status 0" in said
    assert feedback["score"] == feedback["baseline"]
