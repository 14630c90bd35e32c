"""From a workflow's path to its class."""

from __future__ import annotations

from pathlib import Path

import pytest

from astune.errors import ConfigError
from astune.workflow.resolve import resolve_workflow

WORKFLOW = """
from astune.workflow.types import Workflow, WorkflowOutput

class Mine(Workflow):
    async def execute(self, workflow_task, astune_proxy):
        return WorkflowOutput(reward=1.0)

class NotOne:
    pass

class Idle(Workflow):
    pass
"""


@pytest.mark.parametrize(
    "path",
    [
        "tutorial.math_agent->ExampleMathLearn",
        "tutorial.example_math_agent.math_agent->ExampleMathLearn",
        "tutorial.example_math_agent.math_agent_plain->PlainMathLearn",
    ],
)
def test_the_tutorials_workflows_resolve(path: str) -> None:
    assert resolve_workflow(path).__name__ == path.rpartition("->")[2]


def test_both_names_of_the_math_agent_are_one_class() -> None:
    short = resolve_workflow("tutorial.math_agent->ExampleMathLearn")
    assert short is resolve_workflow("tutorial.example_math_agent.math_agent->ExampleMathLearn")


def test_a_module_in_the_working_directory_resolves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "workflow_of_a_user.py").write_text(WORKFLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    assert resolve_workflow("workflow_of_a_user->Mine").__name__ == "Mine"


def test_a_file_resolves_to_one_class_each_time(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(WORKFLOW)
    assert resolve_workflow(f"{file}->Mine") is resolve_workflow(f"{file}->Mine")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tutorial.math_agent", "expected 'package.module->Class'"),
        ("tutorial.math_agnet->ExampleMathLearn", "did you mean 'tutorial.math_agent'"),
        ("tutorial.math_agent->ExampelMathLearn", "did you mean 'ExampleMathLearn'"),
        ("no/such/file.py->Mine", "no file"),
        ("astune.workflow.types->WorkflowTask", "defines neither agentscope_execute nor execute"),
    ],
)
def test_a_path_that_leads_nowhere_says_what_is_wrong(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_workflow(path)


@pytest.mark.parametrize("name", ["NotOne", "Idle"])
def test_a_class_that_is_no_workflow_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(WORKFLOW)
    with pytest.raises(ConfigError, match="defines neither"):
        resolve_workflow(f"{file}->{name}")


def test_a_file_that_does_not_import_says_why(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import a_module_that_is_not_there")
    with pytest.raises(ConfigError, match=r"importing .*broken\.py failed: ModuleNotFoundError"):
        resolve_workflow(f"{file}->Mine")
