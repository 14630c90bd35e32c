"""The native stage: what it samples for which answers, with a scripted model, a real renderer and the real judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from astune.config.refine import Refine
from astune.errors import ConfigError, JudgeError
from astune.refine.training.metrics import batch_metrics, evaluation_row
from astune.refine.training.refined_row import attempt_text
from astune.refine.training.stage import Refined, RefineStage
from astune.rollout.chat import ChatRenderer, pick_renderer
from astune.rollout.runner import EpisodeRunner
from astune.rollout.session import stream_seed
from astune.rollout.types import Sampling
from astune.task_judge.math_answer_as_judge import MathAnswerAsJudge
from astune.task_reader.types import Task
from astune.trace import Episode, StopReason, ToolCall, Trajectory, Turn
from astune.workflow.direct import DirectAnswer
from astune.workflow.types import Workflow, WorkflowOutput, WorkflowTask
from tests.rollout.fake_engine import FakeScriptedEngine, small_tokenizer

RIGHT, WRONG, SILENT = "\\boxed{18}", "\\boxed{17}", "I can't say."


def model(_: int, prompt: str) -> str:
    """Says 18 to the task ``good`` and to every refine prompt; criticises truly."""
    if "critical reviewer" in prompt:
        return "The answer is correct." if "18" in prompt else "The answer 17 is wrong."
    if "problem solver" in prompt:
        return "Now: " + RIGHT
    return {"good": RIGHT, "mute": SILENT}.get(prompt.split("(")[1].split(")")[0], WRONG)


def spoiler(index: int, prompt: str) -> str:
    """As ``model``, but a refined answer is never right."""
    return WRONG if "problem solver" in prompt else model(index, prompt)


def tasks(*names: str) -> list[Task]:
    return [Task(name, "How many?", "18", [{"role": "user", "content": f"How many? ({name})"}]) for name in names]


@contextmanager
def no_tools() -> Iterator[list[ToolCall]]:
    yield []


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    return pick_renderer(small_tokenizer())


Run = Callable[..., Any]


@pytest.fixture
def refine(renderer: ChatRenderer) -> Run:
    async def run(
        *names: str,
        script: Callable[[int, str], str] = model,
        samples: int = 1,
        every_row: bool = False,
        workflow: Any = DirectAnswer,
        judge: Any = None,
        max_context: int = 4096,
        step: int = 3,
        **settings: Any,
    ) -> Refined:
        engine = FakeScriptedEngine(renderer.tokenizer, script, max_context=max_context)
        runner = EpisodeRunner(
            engine, renderer, workflow, judge or MathAnswerAsJudge(), Sampling(max_tokens=200), tools=no_tools, seed=5
        )
        stage = RefineStage(Refine(enabled=True, **settings), runner)
        wanted = tasks(*names)
        groups = await runner.run_groups(wanted, samples, step=step)
        before = len(engine.samplings)
        refined = await stage.refine(wanted, groups, step, Sampling(max_tokens=200), every_row=every_row)
        run.samplings = engine.samplings[before:]  # type: ignore[attr-defined]
        return refined

    return run


def kinds(refined: Refined) -> list[tuple[str, str, int]]:
    return [(episode.task_id, episode.role, episode.round) for episode in refined.episodes]


async def test_every_answer_is_criticised_and_answered_again(refine: Run) -> None:
    refined = await refine("good", "bad")
    assert kinds(refined) == [
        ("good", "critique", 1), ("bad", "critique", 1), ("good", "refine", 1), ("bad", "refine", 1),
    ]  # fmt: skip
    assert [row.chain.correct for row in refined.rows] == [(True, True), (False, True)]
    assert [row.verdicts for row in refined.rows] == [(True,), (False,)]


async def test_a_quoted_text_that_spells_the_end_of_a_turn_ends_none(refine: Run, renderer: ChatRenderer) -> None:
    end = renderer.tokenizer.convert_tokens_to_ids("<|im_end|>")
    plain, spelled = (await refine("bad", "bad<|im_end|>")).episodes[:2]
    assert plain.turns[0].prompt_ids.count(end) == spelled.turns[0].prompt_ids.count(end) == 2


async def test_wrong_rows_alone_cost_what_they_are(refine: Run) -> None:
    refined = await refine("good", "bad", "good", rows="wrong")
    assert {task for task, _, _ in kinds(refined)} == {"bad"}
    assert [len(row.attempts) for row in refined.rows] == [1, 2, 1]


async def test_with_nothing_wrong_nothing_is_sampled(refine: Run) -> None:
    refined = await refine("good", "good", credit="replace")
    assert (refined.episodes, refine.samplings) == ([], [])  # type: ignore[attr-defined]


async def test_an_evaluation_refines_every_row(refine: Run) -> None:
    refined = await refine("good", "bad", credit="replace", every_row=True)
    assert [len(row.attempts) for row in refined.rows] == [2, 2]


async def test_without_critiques_the_refiner_is_asked_at_once(refine: Run) -> None:
    refined = await refine("bad", use_critique=False)
    assert (kinds(refined), refined.rows[0].verdicts) == ([("bad", "refine", 1)], ())


async def test_all_rows_take_every_round_and_wrong_ones_until_they_are_right(refine: Run) -> None:
    lengths = {}
    for rows in ("all", "wrong"):
        refined = await refine("good", "bad", rows=rows, max_refine_rounds=3, use_critique=False)
        lengths[rows] = [len(row.attempts) for row in refined.rows]
    assert lengths == {"all": [4, 4], "wrong": [1, 2]}


async def test_the_critic_sees_the_question_and_the_answer_and_never_the_reference(refine: Run) -> None:
    seen: list[str] = []

    def watching(index: int, prompt: str) -> str:
        seen.append(prompt)
        return WRONG if "problem solver" not in prompt else RIGHT

    await refine("bad", script=watching)
    critique = seen[1]
    assert ("How many? (bad)" in critique, WRONG in critique, "18" in critique) == (True, True, False)


async def test_critic_and_refiner_are_shown_thoughts_as_they_were_sampled(refine: Run) -> None:
    seen: list[str] = []

    def thinking(index: int, prompt: str) -> str:
        seen.append(prompt)
        if "critical reviewer" in prompt:
            return "<think>9 + 9 = 18.</think>\nThe answer is wrong."
        return f"<think>9 + 8 = 17.</think>\n{WRONG}"

    await refine("bad", script=thinking)
    assert f"<think>9 + 8 = 17.</think>\n{WRONG}" in seen[1]
    assert "<think>9 + 9 = 18.</think>\nThe answer is wrong." in seen[2]


async def test_streams_are_named_by_step_task_sample_role_and_round(refine: Run) -> None:
    await refine("bad", samples=2, step=7)
    expected = [stream_seed(5, 7, "bad", sample, role, 1, 0) for role in ("critique", "refine") for sample in (0, 1)]
    assert [sampling.seed for sampling in refine.samplings] == expected  # type: ignore[attr-defined]


async def test_max_tokens_is_the_sections_own(refine: Run) -> None:
    refined = await refine("bad", max_tokens=4)
    assert max(len(turn.completion_ids) for episode in refined.episodes for turn in episode.turns) == 4


async def test_an_answer_that_cannot_be_graded_is_refined_as_a_wrong_one(refine: Run) -> None:
    refined = await refine("mute", rows="wrong")
    assert refined.rows[0].chain.rewards == (None, 1.0)


async def test_an_answer_that_failed_is_left_alone_and_counts_as_unsolved(refine: Run) -> None:
    class FailsOnBad(DirectAnswer):
        async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
            if workflow_task.task.task_id == "bad" and "(bad)" in str(workflow_task.task.init_messages):
                raise ValueError("no")
            return await super().execute(workflow_task, astune_proxy)

    refined = await refine("good", "bad", workflow=FailsOnBad, every_row=True)
    row = evaluation_row(refined.rows, Refine())
    assert [task for task, _, _ in kinds(refined)] == ["good", "good"]
    assert (row["rows"], row["accuracy_t1"], row["accuracy_t2"]) == (2, 0.5, 0.5)


async def test_a_refined_answer_that_does_not_fit_the_context_leaves_the_first(refine: Run) -> None:
    def talkative(index: int, prompt: str) -> str:
        return WRONG + " because" * 60 if "critical" not in prompt and "problem solver" not in prompt else "wrong"

    refined = await refine("bad", script=talkative, max_context=330, every_row=True, use_critique=False)
    [row] = refined.rows
    assert (len(row.attempts), row.failed, refined.episodes[0].stop_reason) == (1, True, "context_overflow")
    assert evaluation_row(refined.rows, Refine())["accuracy_t2"] == 0.0


async def test_a_critique_longer_than_the_context_is_cut(refine: Run) -> None:
    def long_winded(index: int, prompt: str) -> str:
        return "It is wrong. " * 40 if "critical reviewer" in prompt else model(index, prompt)

    refined = await refine("bad", script=long_winded, max_context=760, max_tokens=400)
    assert (refined.rows[0].shortened, refined.rows[0].chain.correct) == (1, (False, True))


async def test_an_empty_critique_leads_to_a_refinement_without_one(refine: Run) -> None:
    refined = await refine("bad", script=lambda i, p: "" if "critical reviewer" in p else model(i, p))
    assert (refined.rows[0].verdicts, refined.rows[0].chain.correct) == ((None,), (False, True))


async def test_a_judge_that_returns_nan_is_named(refine: Run) -> None:
    class Broken:
        def compute_reward(self, found: dict[str, Any]) -> tuple[float, bool]:
            return (float("nan"), True) if "Now:" in found["final_answer"] else (0.0, False)

    with pytest.raises(JudgeError, match="'bad' returned nan as raw_reward"):
        await refine("bad", judge=Broken())


async def test_a_task_without_a_question_is_named(renderer: ChatRenderer) -> None:
    runner = EpisodeRunner(
        FakeScriptedEngine(renderer.tokenizer, model), renderer, DirectAnswer, None, Sampling(8), tools=no_tools
    )
    with pytest.raises(ConfigError, match="'t' has no user message"):
        await RefineStage(Refine(), runner).refine([Task("t", "?")], [], 0, Sampling(8))


class TwoCalls(Workflow):
    """Thinks in one call and answers in another."""

    async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
        messages = list(workflow_task.task.init_messages)
        thought, _ = await astune_proxy.chat(messages)
        answer, _ = await astune_proxy.chat([*messages, thought, {"role": "user", "content": "So?"}])
        astune_proxy.update_judge_input_dictionary(final_answer=answer["content"])
        return WorkflowOutput()


def two_calls(index: int, prompt: str) -> str:
    if "critical reviewer" in prompt:
        return "wrong"
    answer = RIGHT if "Previous attempt" in prompt else WRONG
    return "Let me think." if index == 0 else answer


async def test_a_workflow_attempt_is_the_runs_own_workflow_on_the_refine_prompt(refine: Run) -> None:
    refined = await refine("bad", script=two_calls, workflow=TwoCalls, attempt="workflow")
    attempt = refined.rows[0].refined[0]
    assert (len(attempt.turns), refined.rows[0].chain.correct) == (2, (False, True))


async def test_an_attempt_of_many_turns_is_shown_with_all_that_was_said(refine: Run) -> None:
    refined = await refine("bad", script=two_calls, workflow=TwoCalls, attempt="workflow")
    assert attempt_text(refined.rows[0].first) == f"Let me think.\n{WRONG}"


def test_tool_calls_are_part_of_the_text_with_what_came_back() -> None:
    call = {"name": "execute_python_code", "arguments": {"code": "print(18)"}, "status": "ok"}
    turns = [
        Turn([1], [2], [0.0], StopReason.TOOL_CALL, message={"content": "Compute.", "tool_calls": [call]}),
        Turn([1], [2], [0.0], StopReason.EOS, message={"content": RIGHT}),
    ]
    done = ToolCall("execute_python_code", call["arguments"], "<stdout>18\n</stdout>", 0, "finished", 0.1)
    text = attempt_text(Episode("t", 0, [Trajectory([1, 2], [0, 1], [0.0, 0.0], turns)], tool_calls=[done]))
    assert text == f'Compute.\nexecute_python_code({{"code": "print(18)"}})\n<stdout>18\n</stdout>\n{RIGHT}'


def test_a_final_answer_that_no_message_holds_is_part_of_the_text() -> None:
    assert attempt_text(Episode("t", 0, judge_input={"final_answer": "\\boxed{3}"})) == "\\boxed{3}"


async def test_the_evaluation_shows_what_an_oracle_hides(refine: Run) -> None:
    refined = await refine("good", "bad", script=spoiler, every_row=True)
    row = evaluation_row(refined.rows, Refine(gate="verdict"))
    assert (row["accuracy_t1"], row["accuracy_t2"], row["accuracy_oracle_gated"]) == (0.5, 0.0, 0.5)
    assert (row["accuracy_gated"], row["ci"], row["ii"]) == (0.5, 1, 1)


async def test_a_batch_of_wrong_rows_knows_no_ungated_accuracy(refine: Run) -> None:
    refined = await refine("good", "bad", rows="wrong")
    row = batch_metrics(refined, Refine(rows="wrong"))
    assert "refine/accuracy_t2" not in row
    assert (row["refine/accuracy_oracle_gated"], row["refine/attempts"], row["refine/critiques"]) == (1.0, 1, 1)
