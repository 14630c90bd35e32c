"""The page on one's own agent, judge and tasks: every file that it prints is written down and run, as printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from astune import cli
from astune.leftovers import MARK
from astune.report.records import read_episodes
from astune.report.run_folder import RunFolder
from astune.task_judge.registry import resolve_judge
from astune.task_reader.dataset_file import read_dataset_file
from astune.task_reader.types import Task
from astune.trace import Episode
from astune.workflow.astune_proxy import AstuneProxy
from astune.workflow.types import WorkflowOutput, WorkflowTask

PAGE = "docs/your_own_agent.md"
#: A printed file: its name at the end of a sentence, then the fenced block.
FILE = re.compile(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)
#: One training step of a few short episodes.
TINY = (
    "trainer.steps=1", "trainer.prompts_per_step=1", "trainer.group_size=2", "trainer.threads=1",
    "rollout.max_tokens=48", "evaluation.at_start=false", "evaluation.sampled=false", "evaluation.greedy=false",
    "tracking.report=false",
)  # fmt: skip


@pytest.fixture
def page(project_root: Path) -> str:
    return (project_root / PAGE).read_text(encoding="utf-8")


@pytest.fixture
def folder(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the page asks for, and the working directory."""
    for name, text in FILE.findall(page):
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(MARK, "")  # restores the environment afterwards
    return tmp_path


def train(*overrides: str, name: str = "my_run") -> list[Episode]:
    """Runs the page's configuration and returns its first step's episodes."""
    assert cli.main(["--conf", "my_run.yaml", *TINY, *overrides]) == 0
    return read_episodes(RunFolder(name).episodes_file(1))


def command_of(page: str, name: str) -> list[str]:
    """The overrides of the command that the page prints for the run ``name``."""
    [command] = re.findall(rf'astuner --conf my_run.yaml (name={name} "[^"]+")', page)
    return [word.strip('"') for word in command.split()]


def test_every_code_block_of_the_page_is_one_of_its_files(page: str, folder: Path) -> None:
    assert len(FILE.findall(page)) == len(re.findall(r"^```\w+$", page, re.MULTILINE)) == 7


def test_the_plain_agent_trains(folder: Path) -> None:
    episodes = train()
    assert [(episode.error, len(episode.turns)) for episode in episodes] == [(None, 2)] * 2
    for episode in episodes:
        assert episode.judge_input["final_answer"] == episode.turns[-1].message["content"]


def test_the_plain_agent_edits_no_history(folder: Path) -> None:
    reasons = {reason for episode in train() for reason in episode.split_reasons}
    assert reasons <= {"template"}  # the bundled model's template leaves out earlier reasoning, as the page says


def test_the_agentscope_agent_trains_with_both_tools(page: str, folder: Path) -> None:
    overrides = command_of(page, "scoped")
    episodes = train(*overrides, "trainer.group_size=4", name="scoped")
    assert [episode.error for episode in episodes] == [None] * 4
    assert all("final_answer" in episode.judge_input for episode in episodes if episode.stop_reason == "finished")


def test_the_openai_client_trains(page: str, folder: Path) -> None:
    episodes = train(*command_of(page, "over_http"), name="over_http")
    assert [(episode.error, len(episode.turns)) for episode in episodes] == [(None, 1)] * 2


def test_the_judges_parts_are_in_the_metrics(folder: Path) -> None:
    train()
    [row] = RunFolder("my_run").read_metrics()
    assert row["reward/near"] + row["reward/length"] == pytest.approx(row["reward_mean"])
    assert row["reward/length"] < 0


@pytest.mark.parametrize(("answer", "success"), [("\\boxed{2.83}", True), ("\\boxed{2.9}", False), ("none", False)])
def test_the_judge_reads_the_tasks_own_field(folder: Path, answer: str, success: bool) -> None:
    [task] = [task for task in read_dataset_file("my_tasks.jsonl") if task.answer == "2.8"]
    evidence = {"workflow_task": WorkflowTask(task), "grouped_steps": [], "final_answer": answer}
    assert resolve_judge(f"{folder}/my_judge.py->Near").compute_reward(evidence)[1] is success  # type: ignore[index]


def test_every_tasks_own_answer_passes_the_judge(folder: Path) -> None:
    done = subprocess.run([sys.executable, "check_tasks.py"], capture_output=True, text=True, check=True)
    count = len([json.loads(line) for line in (folder / "my_tasks.jsonl").read_text().splitlines()])
    assert done.stdout == f"{count} tasks: each one's own answer is a success\n"


def test_debugging_shows_the_page_s_agent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--conf", "my_run.yaml", *TINY, "--backbone", "debug"]) == 0
    assert "plain_agent.py->Checked" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["workflow_task", "astune_proxy", "WorkflowOutput"])
def test_what_the_tables_promise_is_there(page: str, name: str) -> None:
    [table] = re.findall(rf"^\| `{name}` \| \|\n(.*?)\n\n", page, re.MULTILINE | re.DOTALL)
    cells = " ".join(line.split("|")[1] for line in table.splitlines()[1:])
    promised = re.findall(r"(?:^|[ `.])\.?([a-z_]+)(?=[`(\[.])", cells)
    known = {
        "workflow_task": {*WorkflowTask.__slots__, *Task.__slots__},
        "astune_proxy": {*dir(AstuneProxy)},
        "WorkflowOutput": {*WorkflowOutput.__slots__},
    }[name]
    assert promised
    assert set(promised) <= known
