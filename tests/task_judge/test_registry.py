"""Judges are found by path and asked in one way; each mistake of theirs has a message that names it."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from astune.class_path import load_class
from astune.errors import ConfigError, JudgeError
from astune.task_judge.registry import resolve_judge, run_judge
from astune.task_judge.types import Judge
from astune.task_reader.types import Task
from astune.workflow.types import WorkflowTask

EVIDENCE = {"workflow_task": WorkflowTask(Task("task-7", "q", "18"))}


@pytest.fixture
def judges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The module of example judges, in a user's project: the working directory."""
    source = (Path(__file__).parent / "judges.py").read_text(encoding="utf-8")
    (tmp_path / "my_project_judges.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "my_project_judges", raising=False)
    spec = importlib.util.spec_from_file_location("example_judges", tmp_path / "my_project_judges.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_judge_in_the_users_project_is_found(judges: Any) -> None:
    assert resolve_judge("my_project_judges->Fixed", result=(0.5, False)).result == (0.5, False)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("MathAnswerAsJudge", "expected 'package.module->Class'"),
        ("->X", "expected 'package.module->Class'"),
        ("astune.task_judge.math_answer->MathAnswerAsJudge", "did you mean 'astune.task_judge.math_answer_as_judge'"),
        ("astune.task_judge.math_answer_as_judge->MathAnswerJudge", "did you mean 'MathAnswerAsJudge'"),
        ("my_project_judge->Fixed", "no module 'my_project_judge'; did you mean 'my_project_judges'"),
        ("my_project_judges->NoJudge", "compute_reward"),
        ("my_project_judges->RaisingConstructor", "its constructor raised OSError: no rubric file"),
    ],
)
def test_a_wrong_path_is_refused_with_what_is_near(judges: Any, path: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_judge(path)
    assert message in str(caught.value)
    assert path in str(caught.value)


def test_an_unknown_argument_is_refused(judges: Any) -> None:
    with pytest.raises(ConfigError, match="unexpected keyword argument 'rewrad'"):
        resolve_judge("my_project_judges->Fixed", rewrad=1)


def test_a_module_that_fails_to_import_says_how(judges: Any, tmp_path: Path) -> None:
    (tmp_path / "broken_judges.py").write_text("import no_such_package\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"importing broken_judges failed: .*no_such_package"):
        load_class("broken_judges->Judge", "judge")


def test_the_llm_judge_says_what_it_needs() -> None:
    with pytest.raises(ConfigError, match="OpenAI-compatible endpoint"):
        resolve_judge("astune.task_judge.math_answer_as_judge->MathAnswerAndLlmAsJudge")


@pytest.mark.parametrize("kind", ["Fixed", "FixedAsync"])
@pytest.mark.parametrize("components", [(), ({"correct": 1.0},)])
async def test_plain_and_async_judges_with_and_without_components(judges: Any, kind: str, components: Any) -> None:
    verdict = await run_judge(getattr(judges, kind)((1.0, True, *components)), EVIDENCE)
    assert (verdict.raw_reward, verdict.is_success) == (1.0, True)
    assert verdict.components == (components[0] if components else {})


@pytest.mark.parametrize("reward", [1, True, np.float32(1.0), np.array(1.0), torch.tensor(1.0)])
async def test_scalars_of_other_libraries_become_floats(judges: Any, reward: Any) -> None:
    verdict = await run_judge(judges.Fixed((reward, np.bool_(True))), EVIDENCE)
    assert (type(verdict.raw_reward), verdict.raw_reward, verdict.is_success) == (float, 1.0, True)


@pytest.mark.parametrize(
    "result",
    [
        *(None, 1.0, (1.0,), (1.0, True, {}, {}), "ab", (float("nan"), True), (float("inf"), True), ("1", True)),
        *((None, True), (torch.ones(2), True), (torch.tensor(float("nan")), True), (1.0, "yes"), (1.0, 0.5)),
        *((1.0, True, [1]), (1.0, True, {"a": float("nan")}), (1.0, True, {"a": "b"})),
    ],
    ids=repr,
)
async def test_a_result_that_is_no_verdict_names_judge_and_task(judges: Any, result: Any) -> None:
    with pytest.raises(JudgeError, match=r"judge Fixed on task 'task-7' returned"):
        await run_judge(judges.Fixed(result), EVIDENCE)


async def test_a_judge_that_raises_is_named_with_its_task(judges: Any) -> None:
    with pytest.raises(JudgeError, match="judge Raising on task 'task-7' raised KeyError: 'final_answer'"):
        await run_judge(judges.Raising(), EVIDENCE)


@pytest.mark.parametrize("may_block", [True, False])
async def test_only_a_judge_that_may_block_leaves_the_loops_thread(may_block: bool) -> None:
    class Observer:
        def __init__(self) -> None:
            self.may_block = may_block

        def compute_reward(self, judge_input_dictionary: dict[str, Any]) -> tuple[float, bool]:
            return float(threading.current_thread() is not threading.main_thread()), True

    judge: Judge = Observer()
    assert (await run_judge(judge, EVIDENCE)).raw_reward == float(may_block)
