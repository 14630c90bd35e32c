"""The whole agent on real processes: the best so far is in place at every moment, and a kill loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agents.common import jsonl
from agents.common.training.publish import is_model
from agents.rdagent.drivers.llm import LanguageModelDriver, endpoint_from
from agents.rdagent.drivers.replay import RecordedModel
from agents.rdagent.records import Journal
from astune.refine.memory import EpisodicMemory
from tests.agents.fake_endpoint import answer
from tests.agents.rdagent.conftest import training

ROOT = Path(__file__).parents[3]


def replayed(task: Any, *texts: str) -> LanguageModelDriver:
    given = len(jsonl.read(task.workspace / "answers.jsonl"))
    return LanguageModelDriver(RecordedModel(texts, given), task, lambda _: None)


def run(task: Any, agent_of: Any, *codes: str) -> Any:
    texts = [answer(code, f"number {n}") for n, code in enumerate(codes, start=1)]
    return agent_of(task, replayed(task, *texts)).run()


def test_the_best_of_several_is_handed_in_with_its_code(make_task, agent_of):
    task = make_task()
    chosen = run(task, agent_of, training(0.4), training(0.8), training(0.6))
    assert chosen.proposal.hypothesis == "number 2"
    assert is_model(task.output_model)
    assert "0.8" in (task.code / "train.py").read_text()
    assert [trial.score for trial in Journal(task.workspace / "journal.jsonl").trials] == [0.4, 0.8, 0.6]


def test_where_nothing_works_the_base_model_is_handed_in(make_task, agent_of):
    task = make_task()
    chosen = run(task, agent_of, "raise SystemExit('no')", "print('no model')")
    assert chosen.number == 0
    assert (task.output_model / "model.safetensors").read_bytes() == (
        task.base_model / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    "code, said",
    [
        ("raise RuntimeError('lost')", "RuntimeError: lost"),
        ("print('no model')", "no model in AUTORL_OUTPUT"),
        ("import time\ntime.sleep(60)", "stopped after"),
        ("while True: print('x' * 1000)", "printed too much"),
        ("import os\nos.kill(os.getpid(), 9)", "failed with status -9"),
    ],
)
def test_code_that_goes_wrong_is_a_record_that_the_next_prompt_holds(
    make_task, agent_of, endpoint, monkeypatch, code, said
):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    server = endpoint([answer(code, seconds=2), answer(training(0.5)), 401])
    task = make_task()
    model = endpoint_from({"request_retries": 0}, {"OPENAI_BASE_URL": server.url, "OPENAI_MODEL": "m"})
    chosen = agent_of(task, LanguageModelDriver(model, task, lambda _: None)).run()
    assert chosen.number == 2
    assert said in server.prompt(1)
    first = Journal(task.workspace / "journal.jsonl").trials[0]
    assert first.score is None
    assert said in (first.outcome.error or "")


def test_each_experiment_leaves_its_code_its_log_and_a_lesson(make_task, agent_of):
    task = make_task()
    run(task, agent_of, training(0.4), "raise SystemExit('no luck')")
    folder = task.workspace / "experiments"
    assert "0.4" in (folder / "001" / "code" / "train.py").read_text()
    assert "no luck" in (folder / "002" / "log.txt").read_text()
    with EpisodicMemory(task.workspace / "memory.sqlite") as memory:
        assert [lesson.score for lesson in memory.recent(5)] == [None, 0.4]


def test_training_goes_on_from_the_best_model_so_far(make_task, agent_of):
    task = make_task()
    shows = training(0.9) + "print(os.environ['AUTORL_START_MODEL'])"
    run(task, agent_of, training(0.8), training(0.3), shows)
    assert "experiments/001/model" in (task.workspace / "experiments" / "003" / "log.txt").read_text()


def test_in_a_replay_every_experiment_begins_at_the_base_model(make_task, agent_of):
    task = make_task(track="replay")
    shows = training(0.9) + "print(os.environ['AUTORL_START_MODEL'])"
    run(task, agent_of, training(0.8), shows)
    assert str(task.base_model) in (task.workspace / "experiments" / "002" / "log.txt").read_text()


def test_nothing_is_begun_when_the_time_is_over(make_task, agent_of):
    task = make_task(seconds=5.0)
    chosen = run(task, agent_of, training(0.8))
    assert chosen.number == 0
    assert is_model(task.output_model)
    assert not (task.workspace / "experiments").exists()


def test_a_second_start_runs_nothing_twice(make_task, agent_of):
    task = make_task()
    codes = [training(0.4) + "open('ran', 'a').write('x')", training(0.8) + "open('ran', 'a').write('x')"]
    run(task, agent_of, *codes)
    chosen = run(task, agent_of, *codes)
    assert chosen.number == 2
    for number in ("001", "002"):
        assert (task.workspace / "experiments" / number / "code" / "ran").read_text() == "x"


DRIVEN = """
import json, sys, time
from pathlib import Path
from agents.common.bench import Bench
from agents.common.launch import ColdLauncher
from agents.common.task import Task
from agents.rdagent.agent import ResearchAgent
from agents.rdagent.drivers import make_driver
from autorl_bench.client import BenchClient
from autorl_bench.scenarios import ScenarioRegistry, details

task = Task.from_environment()
bench = Bench(BenchClient("http://127.0.0.1:9", "run:token", "run", patience=0.0))
known = details(ScenarioRegistry().get(task.scenario))
driver, tolerance = make_driver(task, known, bench)
ResearchAgent(task, driver, bench, ColdLauncher(), known, tolerance=tolerance).run()
"""


def test_an_agent_that_was_killed_goes_on_where_it_was(make_task, tmp_path):
    task = make_task()
    slow = training(0.6) + "import time\nopen('ran', 'a').write('x')\ntime.sleep(1.5)"
    record = tmp_path / "record.jsonl"
    for code in (training(0.5) + "open('ran', 'a').write('x')", slow, training(0.7)):
        jsonl.append(record, {"text": answer(code)})
    environment = dict(os.environ) | {
        "PYTHONPATH": str(ROOT),
        "AUTORL_RUN": "run",
        "AUTORL_SCENARIO": task.scenario,
        "AUTORL_WORKSPACE": str(task.workspace),
        "AUTORL_BASE_MODEL": str(task.base_model),
        "AUTORL_TRAIN_DATA": str(task.train_data),
        "AUTORL_TRACK": "weights",
        "AUTORL_SEED": "0",
        "AUTORL_BUDGET": json.dumps({"wall_seconds": 120, "cpu_seconds": 240}),
        "AUTORL_ARGUMENTS": json.dumps({"driver": "replay", "record": str(record)}),
    }
    ran = task.workspace / "experiments" / "002" / "code" / "ran"
    first = subprocess.Popen([sys.executable, "-c", DRIVEN], env=environment | {"AUTORL_SECONDS_LEFT": "110"})
    ends_at = time.monotonic() + 60
    while not ran.is_file():
        assert time.monotonic() < ends_at
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert is_model(task.output_model)
    done = subprocess.run(
        [sys.executable, "-c", DRIVEN],
        env=environment | {"AUTORL_SECONDS_LEFT": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "going on after 2 trials" in done.stdout
    trials = Journal(task.workspace / "journal.jsonl").trials
    assert [trial.score for trial in trials] == [0.5, 0.6, 0.7]
    assert (task.workspace / "experiments" / "001" / "code" / "ran").read_text() == "x"
    assert ran.read_text() == "xx"
    assert "0.7" in (task.code / "train.py").read_text()
