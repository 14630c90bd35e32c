"""What an agent is given is read once and checked."""

import json

import pytest

from agents.common.task import Budget, Deadline, Task
from astune.errors import ConfigError

ENVIRONMENT = {
    "AUTORL_RUN": "r1",
    "AUTORL_SCENARIO": "nano_gsm",
    "AUTORL_WORKSPACE": "/w",
    "AUTORL_BASE_MODEL": "/base",
    "AUTORL_TRAIN_DATA": "/train.jsonl",
    "AUTORL_TRACK": "weights",
    "AUTORL_SEED": "7",
    "AUTORL_BUDGET": json.dumps({"wall_seconds": 60, "cpu_seconds": 60, "memory_gib": 2, "later": 1}),
    "AUTORL_SECONDS_LEFT": "41.5",
    "AUTORL_ARGUMENTS": '{"driver": "search"}',
}


def test_the_environment_becomes_a_task():
    task = Task.from_environment(ENVIRONMENT, clock=lambda: 100.0)
    assert (task.run, task.seed, task.arguments) == ("r1", 7, {"driver": "search"})
    assert task.deadline.seconds_left == 41.5
    assert task.budget.memory_bytes == 2 * 2**30
    assert str(task.output_model) == "/w/output/model"


@pytest.mark.parametrize("name", [name for name in ENVIRONMENT if name != "AUTORL_ARGUMENTS"])
def test_a_missing_variable_is_named(name):
    environment = {key: value for key, value in ENVIRONMENT.items() if key != name}
    with pytest.raises(ConfigError, match=name):
        Task.from_environment(environment)


def test_a_variable_that_cannot_be_read_is_an_error_of_ours():
    with pytest.raises(ConfigError, match="cannot be read"):
        Task.from_environment(ENVIRONMENT | {"AUTORL_SEED": "many"})


def test_no_more_threads_compute_than_the_processor_seconds_pay_for():
    assert Budget(wall_seconds=100, cpu_seconds=100).threads == 1
    assert Budget(wall_seconds=100, cpu_seconds=10).threads == 1


def test_a_deadline_is_a_moment_on_the_clock():
    now = [0.0]
    deadline = Deadline.after(10, clock=lambda: now[0])
    now[0] = 4.0
    assert deadline.seconds_left == 6.0
    assert deadline.earlier_by(8).seconds_left == -2.0
