"""``--backbone debug``: every episode is accounted for, breakpoints are reached, and the page shows the tokens."""

from __future__ import annotations

import os
import re
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from astune.backbone import debug
from astune.report.metrics import is_solved
from astune.task_reader.types import Task
from astune.trace import Episode, StopReason, Turn, build_trajectories
from tests.small_run import Astuner, jsonl, tasks_from

AGENTSCOPE = (
    "rollout.workflow=null",
    "rollout.agentscope_workflow=tutorial.example_math_agent.math_agent->ExampleMathLearn",
)
#: Process and thread of each breakpoint that was reached.
reached: list[tuple[int, int]] = []


def record_breakpoint() -> None:
    """Takes the debugger's place."""
    reached.append((os.getpid(), threading.get_ident()))


def outcomes(text: str) -> dict[str, int]:
    """The table of outcomes, without the bad habits."""
    lines = text[text.index(" outcome ") :].splitlines()[1:]
    rows = [re.fullmatch(r" (\S.*?)\s+(\d+) *", line) for line in lines]
    return {row[1]: int(row[2]) for row in rows if row and not row[1].startswith("(")}


@pytest.mark.parametrize("workflow", [(), AGENTSCOPE], ids=["plain", "agentscope"])
def test_every_generated_problem_has_one_outcome(astuner: Astuner, workflow: tuple[str, ...]) -> None:
    done = astuner("trainer.prompts_per_step=6", "rollout.max_tokens=128", *workflow, backbone="debug")
    _, episodes = astuner.debug_run.read_newest_episodes()
    counts = outcomes(done.out)
    assert (done.status, len(episodes), sum(counts.values())) == (0, 6, 6)
    assert counts.get("solved", 0) == sum(is_solved(episode) for episode in episodes)


def test_every_gsm8k_problem_has_one_outcome(astuner: Astuner, gsm8k: Path) -> None:
    tasks = tasks_from(gsm8k / "test.jsonl")
    done = astuner(*tasks, "trainer.prompts_per_step=6", backbone="debug")
    kept, episodes = astuner.debug_run.read_newest_episodes()
    assert (done.status, sum(outcomes(done.out).values())) == (0, 6)
    assert (
        [episode.task_id for episode in episodes]
        == [task.task_id for task in kept]
        == [f"test-{line}" for line in range(1, 7)]
    )


def test_a_failed_episode_is_counted_and_the_others_go_on(astuner: Astuner) -> None:
    questions = ("How many? ", "How many eggs? " * 1000, "How many? ")
    records = [{"id": f"t{n}", "question": question, "answer": "1"} for n, question in enumerate(questions)]
    tasks = jsonl(astuner.folder / "tasks.jsonl", *records)
    done = astuner(*tasks_from(tasks), "trainer.prompts_per_step=3", backbone="debug")
    counts = outcomes(done.out)
    assert (done.status, counts["failed: context_overflow"], sum(counts.values())) == (0, 1, 3)


def test_nothing_is_trained_and_a_run_of_that_name_is_left_alone(astuner: Astuner) -> None:
    assert astuner().status == 0
    before = astuner.files()
    assert astuner(backbone="debug").status == 0
    assert astuner.files() == before
    assert not astuner.debug_run.checkpoints.exists()


WORKFLOW = """
from tutorial.example_math_agent.math_agent_plain import PlainMathLearn

class Stopping(PlainMathLearn):
    async def execute(self, workflow_task, astune_proxy):
        breakpoint()
        return await super().execute(workflow_task, astune_proxy)
"""
JUDGE = """
class Stopping:
    def compute_reward(self, evidence):
        breakpoint()
        return 1.0, True
"""


def test_breakpoints_are_reached_in_this_process_and_thread(astuner: Astuner, monkeypatch: pytest.MonkeyPatch) -> None:
    reached.clear()
    monkeypatch.setenv("PYTHONBREAKPOINT", f"{__name__}.record_breakpoint")
    for name, text in (("workflow.py", WORKFLOW), ("judge.py", JUDGE)):
        (astuner.folder / name).write_text(text)
    done = astuner(
        f"rollout.workflow={astuner.folder}/workflow.py->Stopping",
        f"task_judge.judge_protocol={astuner.folder}/judge.py->Stopping",
        backbone="debug",
    )
    assert done.status == 0
    assert reached == [(os.getpid(), threading.get_ident())] * 4


def test_an_episode_has_no_time_limit(astuner: Astuner) -> None:
    slow = WORKFLOW.replace("breakpoint()", "await __import__('asyncio').sleep(0.3)")
    (astuner.folder / "slow.py").write_text(slow)
    workflow = f"rollout.workflow={astuner.folder}/slow.py->Stopping"
    done = astuner(workflow, "rollout.max_episode_seconds=0.1", backbone="debug")
    assert (done.status, "timeout" in done.out) == (0, False)


def test_an_episode_whose_judge_fails_is_on_record(astuner: Astuner) -> None:
    (astuner.folder / "broken.py").write_text(JUDGE.replace("breakpoint()", "raise KeyError('final')"))
    done = astuner(f"task_judge.judge_protocol={astuner.folder}/broken.py->Stopping", backbone="debug")
    assert (done.status, "raised KeyError: 'final'" in done.err) == (2, True)
    _, episodes = astuner.debug_run.read_newest_episodes()
    assert [episode.stop_reason for episode in episodes] == ["judge_error"]


IN_TURNS = """
from astune.tools.python_tool import execute_python_code
from astune.workflow.types import Workflow, WorkflowOutput

class InTurns(Workflow):
    async def execute(self, workflow_task, astune_proxy):
        solver, checker = astune_proxy.as_agent("solver"), astune_proxy.as_agent("checker")
        messages = list(workflow_task.task.init_messages)
        said, _ = await solver.chat(messages)
        await execute_python_code("print('seen')")
        await checker.chat([{"role": "user", "content": "Is that right?"}])
        await solver.chat([*messages, said, {"role": "user", "content": "Again."}])
        await execute_python_code("print('unread')")
        return WorkflowOutput()
"""


def test_an_episode_is_shown_in_the_order_in_which_it_happened(astuner: Astuner) -> None:
    (astuner.folder / "in_turns.py").write_text(IN_TURNS)
    workflow = f"rollout.workflow={astuner.folder}/in_turns.py->InTurns"
    out = astuner(workflow, "trainer.prompts_per_step=1", "rollout.max_tokens=8", backbone="debug").out
    shown = re.findall(r"^(solver|checker|.*stdout>\w+)", out, re.MULTILINE)
    tool = "  tool     execute_python_code: <returncode>0</returncode><stdout>"
    assert shown == ["solver", f"{tool}seen", "checker", "solver", f"{tool}unread"]


def test_a_refined_answer_is_shown_as_a_chain(astuner: Astuner) -> None:
    chain = ("refine.enabled=true", "refine.rows=all", "refine.max_refine_rounds=2", "refine.max_tokens=8")
    workflow = "rollout.workflow=astune.workflow.direct->DirectAnswer"
    out = astuner(workflow, *chain, "rollout.max_tokens=8", backbone="debug").out
    _, episodes = astuner.debug_run.read_newest_episodes()
    one_chain = [("answer", 0), ("critique", 1), ("refine", 1), ("critique", 2), ("refine", 2)]
    assert [(episode.role, episode.round) for episode in episodes] == one_chain * 2
    assert re.findall(r"^(?:(\w+) (\d) of )?nano_gsm/", out, re.MULTILINE) == [
        ("", "") if role == "answer" else (role, str(round_)) for role, round_ in one_chain * 2
    ]


def test_thoughts_are_shown_before_what_they_led_to(capsys: pytest.CaptureFixture[str]) -> None:
    message = {"role": "assistant", "content": "Eighteen.", "reasoning_content": "6 * 3"}
    turn = Turn([1], [2], [-0.5], StopReason.EOS, message=message)
    episode = Episode("t1", 0, trajectories=build_trajectories([turn])[0])
    debug.show_episode(Console(), Task("t1", "How many?", "18"), episode)
    assert re.findall(r"^agent +(.*)$", capsys.readouterr().out, re.MULTILINE) == ["<think>6 * 3</think>", "Eighteen."]


def test_the_header_names_the_folder_that_is_written(astuner: Astuner) -> None:
    out = astuner("trainer.prompts_per_step=1", "rollout.max_tokens=8", backbone="debug").out
    assert re.search(r"^run folder +(.*)$", out, re.MULTILINE)[1] == str(astuner.debug_run.path)  # type: ignore[index]


class TestLogView:
    @pytest.fixture
    def page(self, astuner: Astuner, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        """The page as it is served right after the last episode."""
        served: list[str] = []

        def look(url: str) -> None:
            with urllib.request.urlopen(url) as answer:
                served.append(answer.read().decode())

        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("astune.cli._wait_for_ctrl_c", look)
        done = astuner("tracking.report=true", backbone="debug", options=("--with-logview",))
        assert done.status == 0
        yield served[0]

    def test_it_shows_every_token_of_the_episodes(self, astuner: Astuner, page: str) -> None:
        _, episodes = astuner.debug_run.read_newest_episodes()
        ids = [id_ for episode in episodes for trajectory in episode.trajectories for id_ in trajectory.ids]
        assert [int(found) for found in re.findall(r'data-id="(\d+)"', page)] == ids

    def test_it_shows_question_and_reference(self, astuner: Astuner, page: str) -> None:
        tasks, _ = astuner.debug_run.read_newest_episodes()
        assert [f"reference answer {task.answer}" in page for task in tasks] == [True, True]
