"""Episodes: good ones, and every way in which one can fail without ending the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from openai import AsyncOpenAI

from astune.errors import EngineError, EpisodeError, JudgeError, UserError
from astune.proxy.server import ModelServer
from astune.rollout.chat import ChatRenderer, pick_renderer
from astune.rollout.runner import EpisodeLimits, EpisodeRunner
from astune.rollout.session import stream_seed
from astune.rollout.types import Sampling
from astune.task_judge.math_answer_as_judge import MathAnswerAsJudge
from astune.task_reader.types import Task
from astune.tools.python_tool import record_tool_calls, use_sandbox
from astune.tools.sandbox import Sandbox
from astune.trace import Episode, ToolCall, Turn
from astune.workflow.types import Workflow, WorkflowOutput, WorkflowTask
from tests.rollout.fake_engine import FakeScriptedEngine, Script, answer_text, call_text, small_tokenizer
from tutorial.example_math_agent.math_agent import ExampleMathLearn
from tutorial.example_math_agent.math_agent_plain import PlainMathLearn

MALFORMED = 'So.\n<tool_call>\n{"name": "execute_python_code", "arguments": {"code": "print(6*3)"\n</tool_call>'


def a_task(name: str = "eggs") -> Task:
    return Task(name, "How many eggs?", "18", [{"role": "user", "content": f"How many eggs? ({name})"}])


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    return pick_renderer(small_tokenizer())


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as warm:
        yield warm


@contextmanager
def no_tools() -> Iterator[list[ToolCall]]:
    yield []


class AskOnce(Workflow):
    """The least workflow: one model call, whose text is the answer."""

    async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
        answer, _ = await astune_proxy.chat(workflow_task.task.init_messages)
        astune_proxy.update_judge_input_dictionary(final_answer=answer["content"])
        return WorkflowOutput()


Make = Callable[..., EpisodeRunner]


@pytest.fixture
def make(renderer: ChatRenderer) -> Make:
    def runner(workflow: Any = AskOnce, script: Script | list[str] | None = None, **options: Any) -> EpisodeRunner:
        context = options.pop("max_context", 4096)
        engine = FakeScriptedEngine(renderer.tokenizer, script or ["\\boxed{18}"], max_context=context)
        judge = options.pop("judge", MathAnswerAsJudge())
        tools = options.pop("tools", no_tools)
        return EpisodeRunner(engine, renderer, workflow, judge, Sampling(max_tokens=512), tools=tools, **options)

    return runner


@pytest.fixture
def make_with_tools(make: Make, sandbox: Sandbox) -> Make:
    @contextmanager
    def tools() -> Iterator[list[ToolCall]]:
        with use_sandbox(sandbox), record_tool_calls() as calls:
            yield calls

    def runner(workflow: Any, script: list[str]) -> EpisodeRunner:
        return make(workflow, script, tools=tools)

    return runner


def failing(error: BaseException) -> type[Workflow]:
    class Failing(Workflow):
        async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
            await astune_proxy.chat(workflow_task.task.init_messages)
            raise error

    return Failing


class TestTheMathAgents:
    """The tutorial's two agents, with the real tool in the real sandbox."""

    async def test_agentscope_solves(self, make_with_tools: Make) -> None:
        episode = await make_with_tools(ExampleMathLearn, [call_text("print(6*3)"), answer_text("18")]).run_episode(
            a_task()
        )
        assert episode.verdict is not None and episode.verdict.is_success is True
        assert episode.metadata == {"final_answer": "\\boxed{18}"}
        assert [call.output for call in episode.tool_calls] == [
            "<returncode>0</returncode><stdout>18\n</stdout><stderr></stderr>"
        ]
        assert len(episode.trajectories) == 1

    async def test_plain_solves(self, make_with_tools: Make) -> None:
        script = [call_text("print(6*3)"), "The answer is \\boxed{18}."]
        episode = await make_with_tools(PlainMathLearn, script).run_episode(a_task())
        assert episode.verdict is not None and episode.verdict.is_success is True
        assert (len(episode.tool_calls), len(episode.trajectories)) == (1, 1)

    async def test_plain_reads_the_same_observation_of_a_malformed_call(
        self, make_with_tools: Make, renderer: ChatRenderer
    ) -> None:
        texts = []
        for workflow, last in ((ExampleMathLearn, answer_text("1")), (PlainMathLearn, "\\boxed{1}")):
            episode = await make_with_tools(workflow, [MALFORMED, last]).run_episode(a_task())
            texts.append(_before_the_last_turn(renderer, episode))
        assert texts[0] == texts[1]
        assert "FunctionNotFoundError: Cannot find the function named invalid_tool_call" in texts[0]

    async def test_turn_one_differs_in_the_tools_preamble_alone(
        self, make_with_tools: Make, renderer: ChatRenderer
    ) -> None:
        episodes = [
            await make_with_tools(ExampleMathLearn, [call_text("print(18)"), answer_text("18")]).run_episode(a_task()),
            await make_with_tools(PlainMathLearn, [call_text("print(18)"), "\\boxed{18}"]).run_episode(a_task()),
        ]
        texts = [renderer.decode(e.turns[0].prompt_ids + e.turns[0].completion_ids) for e in episodes]
        lines = [[line for line in text.splitlines() if "generate_response" not in line] for text in texts]
        assert lines[0] == lines[1]

    @pytest.mark.parametrize(
        ("habit", "first"),
        [
            ("no_print", call_text("6*3")),
            ("premature_answer", call_text("print(6*3)") + "\nThe answer is \\boxed{18}."),
            ("malformed_call", MALFORMED),
        ],
    )
    async def test_each_bad_habit_is_noticed(self, make_with_tools: Make, habit: str, first: str) -> None:
        script = [first, "The answer is \\boxed{18}."]
        episode = await make_with_tools(PlainMathLearn, script).run_episode(a_task())
        shown = {name for name in ("no_print", "premature_answer", "malformed_call") if episode.habits[name]}
        assert shown == {habit}

    async def test_a_premature_answer_ends_the_plain_episode(self, make_with_tools: Make) -> None:
        script = [call_text("print(6*3)") + "\nThe answer is \\boxed{17}."]
        episode = await make_with_tools(PlainMathLearn, script).run_episode(a_task())
        assert (len(episode.turns), episode.tool_calls) == (1, [])
        assert episode.verdict is not None and episode.verdict.is_success is False


def _before_the_last_turn(renderer: ChatRenderer, episode: Episode) -> str:
    first, last = episode.turns
    return renderer.decode(last.prompt_ids[len(first.prompt_ids) :])


async def test_an_episode_records_turns_reward_and_times(make: Make) -> None:
    episode = await make().run_episode(a_task(), 2)
    assert (episode.task_id, episode.sample_index, episode.stop_reason) == ("eggs", 2, "finished")
    assert episode.trainable
    assert set(episode.seconds) == {"model", "tools", "judge", "total"}


async def test_a_workflow_that_raises_is_recorded(make: Make) -> None:
    episode = await make(failing(ValueError("boom"))).run_episode(a_task())
    assert (episode.stop_reason, episode.error) == ("workflow_error", "ValueError: boom")
    assert episode.traceback is not None and "test_runner.py" in episode.traceback
    assert len(episode.turns) == 1
    assert not episode.trainable


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), RecursionError("deep")])
async def test_whatever_a_workflow_raises_is_its_own_affair(make: Make, error: BaseException) -> None:
    episode = await make(failing(error)).run_episode(a_task())
    assert episode.stop_reason == "workflow_error"


async def test_a_long_traceback_is_cut(make: Make) -> None:
    episode = await make(failing(ValueError("x" * 100_000))).run_episode(a_task())
    assert episode.error is not None and len(episode.error) < 5000
    assert episode.traceback is not None and len(episode.traceback) < 5000


async def test_a_secret_in_an_error_is_not_kept(make: Make) -> None:
    episode = await make(failing(ValueError("bad key sk-proj-0123456789abcdef"))).run_episode(a_task())
    assert episode.error == "ValueError: bad key [secret]"
    assert "0123456789abcdef" not in (episode.traceback or "")


async def test_a_workflow_that_returns_nothing_is_told_what_to_return(make: Make) -> None:
    class Forgetful(Workflow):
        async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
            return None  # type: ignore[return-value]

    episode = await make(Forgetful).run_episode(a_task())
    assert episode.error == "Forgetful.execute returned NoneType, expected a WorkflowOutput"


async def test_a_workflow_without_a_method_says_so(make: Make) -> None:
    episode = await make(Workflow).run_episode(a_task())
    assert episode.error is not None and "neither execute nor agentscope_execute" in episode.error


async def test_a_prompt_longer_than_the_context_is_recorded(make: Make) -> None:
    episode = await make(max_context=4).run_episode(a_task())
    assert episode.stop_reason == "context_overflow"
    assert episode.error is not None and "the model's context holds 4" in episode.error


class Hangs(Workflow):
    """Waits for a tool that never returns."""

    async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
        await astune_proxy.chat(workflow_task.task.init_messages)
        await asyncio.Event().wait()
        return WorkflowOutput()


async def test_a_tool_that_never_returns_ends_its_episode_alone(make: Make) -> None:
    episode = await make(Hangs, limits=EpisodeLimits(seconds=0.05)).run_episode(a_task())
    assert episode.stop_reason == "timeout"
    assert episode.error is not None and "limit of 0.05 s" in episode.error
    assert len(episode.turns) == 1


async def test_a_workflow_that_will_not_be_cancelled_cannot_sample_any_more(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astune.rollout.runner._GRACE_SECONDS", 0.05)
    refused: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    class Stubborn(Workflow):
        async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.1)
            try:
                await astune_proxy.chat(workflow_task.task.init_messages)
            except Exception as error:
                refused.set_result(error)
            return WorkflowOutput(reward=1.0)

    episode = await make(Stubborn, limits=EpisodeLimits(seconds=0.05)).run_episode(a_task())
    assert (episode.stop_reason, episode.verdict) == ("timeout", None)
    assert "limit of 0.05 s" in str(await refused)


async def test_an_ended_episode_samples_no_more(make: Make) -> None:
    kept: list[Any] = []

    class Leaks(Workflow):
        async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
            kept.append(astune_proxy)
            return WorkflowOutput(reward=0.0)

    await make(Leaks).run_episode(a_task())
    with pytest.raises(EpisodeError, match="the episode is over"):
        await kept[0].chat(a_task().init_messages)


async def test_an_agent_that_never_stops_is_judged_on_what_it_has(make: Make) -> None:
    class Chatty(Workflow):
        async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
            while True:
                await astune_proxy.chat(workflow_task.task.init_messages)

    episode = await make(Chatty, lambda *_: "hm", limits=EpisodeLimits(turns=3)).run_episode(a_task())
    assert (episode.stop_reason, len(episode.turns), episode.error) == ("turn_limit", 3, None)
    assert episode.verdict is not None and episode.verdict.raw_reward == 0.0


async def test_a_refusal_behind_an_http_client_keeps_its_kind(make: Make) -> None:
    class OverHttp(Workflow):
        async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
            async with AsyncOpenAI(base_url=astune_proxy.base_url, api_key=astune_proxy.api_key) as client:
                await client.chat.completions.create(model="astune", messages=workflow_task.task.init_messages)  # type: ignore[arg-type]
            return WorkflowOutput(reward=1.0)

    with ModelServer() as server:
        episode = await make(OverHttp, max_context=4, server=server).run_episode(a_task())
    assert episode.stop_reason == "context_overflow"


async def test_an_episode_without_an_endpoint_says_so(make: Make) -> None:
    class OverHttp(Workflow):
        async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
            return WorkflowOutput(metadata={"url": astune_proxy.base_url})

    episode = await make(OverHttp).run_episode(a_task())
    assert episode.error is not None and "has no HTTP endpoint" in episode.error


async def test_an_engine_that_breaks_ends_the_run_even_if_the_workflow_hides_it(make: Make) -> None:
    class Hides(Workflow):
        async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
            with suppress(Exception):
                await astune_proxy.chat(workflow_task.task.init_messages)
            return WorkflowOutput(reward=0.0)

    def broken(*_: Any) -> str:
        raise FloatingPointError("the logits are not finite")

    with pytest.raises(EngineError, match="the logits are not finite"):
        await make(Hides, broken).run_episode(a_task())


async def test_a_workflow_may_grade_itself(make: Make) -> None:
    class Graded(Workflow):
        async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
            return WorkflowOutput(reward=0.25, is_success=False)

    episode = await make(Graded, judge=None).run_episode(a_task())
    assert episode.verdict is not None
    assert (episode.verdict.raw_reward, episode.verdict.is_success) == (0.25, False)


async def test_no_reward_and_no_judge_is_a_users_mistake(make: Make) -> None:
    with pytest.raises(JudgeError, match="judge_protocol"):
        await make(judge=None).run_episode(a_task())


async def test_a_judge_sees_the_evidence(make: Make) -> None:
    seen: dict[str, Any] = {}

    class Curious:
        def compute_reward(self, judge_input_dictionary: dict[str, Any]) -> tuple[float, bool]:
            seen.update(judge_input_dictionary)
            return 1.0, True

    await make(judge=Curious()).run_episode(a_task())
    assert set(seen) == {"workflow_task", "grouped_steps", "tool_calls", "env", "final_answer"}
    assert isinstance(seen["grouped_steps"][0], Turn)


class RaisesOn:
    """A judge that raises on one task."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id

    def compute_reward(self, judge_input_dictionary: dict[str, Any]) -> tuple[float, bool]:
        if judge_input_dictionary["workflow_task"].task.task_id == self.task_id:
            raise KeyError("final_anwser")
        return 1.0, True


async def test_a_judge_that_raises_ends_the_run_and_keeps_what_was_done(make: Make) -> None:
    kept: list[Episode] = []
    runner = make(judge=RaisesOn("b"), limits=EpisodeLimits(concurrency=1))
    with pytest.raises(JudgeError, match=r"RaisesOn on task 'b' raised KeyError"):
        await runner.run_groups([a_task("a"), a_task("b")], 1, on_episode=kept.append)
    assert [(e.task_id, e.stop_reason, len(e.turns)) for e in kept] == [("a", "finished", 1), ("b", "judge_error", 1)]


async def test_groups_come_back_in_order_whatever_order_episodes_end_in(make: Make) -> None:
    class Slow(Workflow):
        async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
            await asyncio.sleep(0.02 * (3 - workflow_task.sample_index))
            return WorkflowOutput(reward=0.0)

    groups = await make(Slow).run_groups([a_task("a"), a_task("b")], 3)
    assert [(g.task_id, [e.sample_index for e in g.episodes]) for g in groups] == [("a", [0, 1, 2]), ("b", [0, 1, 2])]


async def test_no_more_episodes_run_at_once_than_allowed(make: Make) -> None:
    running: list[int] = [0, 0]

    class Counting(Workflow):
        async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
            running[0] += 1
            running[1] = max(running)
            await asyncio.sleep(0)
            running[0] -= 1
            return WorkflowOutput(reward=0.0)

    groups = await make(Counting, limits=EpisodeLimits(concurrency=4)).run_groups([a_task("a"), a_task("b")], 5)
    assert running[1] == 4
    assert sum(len(group.episodes) for group in groups) == 10


async def test_every_session_is_open_before_the_first_request(make: Make) -> None:
    opened_at_first_call: list[int] = []

    def script(*_: Any) -> str:
        opened_at_first_call.append(len(engine.opened))
        return "\\boxed{18}"

    runner = make(AskOnce, script)
    engine = runner.engine
    assert isinstance(engine, FakeScriptedEngine)
    await runner.run_groups([a_task("a"), a_task("b")], 4)
    assert opened_at_first_call[0] == 8
    assert engine.opened == [(0, p, s) for p in range(2) for s in range(4)]
    assert engine.closed == 8


async def test_seeds_name_run_step_task_sample_and_turn(make: Make) -> None:
    runner = make(seed=5)
    await runner.run_groups([a_task("a")], 2, step=3)
    assert isinstance(runner.engine, FakeScriptedEngine)
    assert [s.seed for s in runner.engine.samplings] == [stream_seed(5, 3, "a", n, 0) for n in range(2)]


async def test_a_workflow_broken_from_the_start_ends_the_run_by_name(make: Make) -> None:
    with pytest.raises(
        UserError, match=r"all 4 episodes of the first step failed with workflow_error: NameError: agnet"
    ):
        await make(failing(NameError("agnet"))).run_groups([a_task("a"), a_task("b")], 2)


async def test_prompts_that_are_all_too_long_end_the_run_with_the_numbers(make: Make) -> None:
    with pytest.raises(UserError, match=r"failed with context_overflow: .*the model's context holds 4"):
        await make(max_context=4).run_groups([a_task("a"), a_task("b")], 2)


async def test_different_failures_in_the_first_step_do_not_end_the_run(make: Make) -> None:
    class Unlucky(Workflow):
        async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
            raise (ValueError if workflow_task.sample_index else KeyError)("x")

    [group] = await make(Unlucky).run_groups([a_task()], 2)
    assert [episode.error for episode in group.episodes] == ["KeyError: 'x'", "ValueError: x"]


async def test_a_workflow_that_broke_later_does_not_end_the_run(make: Make) -> None:
    runner = make()
    await runner.run_groups([a_task()], 2)
    runner.workflow_factory = failing(ConnectionError("away"))
    [group] = await runner.run_groups([a_task()], 2, step=1)
    assert [episode.stop_reason for episode in group.episodes] == ["workflow_error"] * 2


async def test_episodes_that_fail_on_some_tasks_do_not_end_the_run(make: Make) -> None:
    class Picky(AskOnce):
        async def execute(self, workflow_task: WorkflowTask, astune_proxy: Any) -> WorkflowOutput:
            if workflow_task.task.task_id == "b":
                raise ValueError("b")
            return await super().execute(workflow_task, astune_proxy)

    groups = await make(Picky).run_groups([a_task("a"), a_task("b")], 2)
    assert [group.episodes[0].stop_reason for group in groups] == ["finished", "workflow_error"]


async def test_cancelling_the_run_cancels_every_episode(make: Make) -> None:
    runner = make(Hangs)
    run = asyncio.ensure_future(runner.run_groups([a_task()], 4))
    await asyncio.sleep(0.05)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert isinstance(runner.engine, FakeScriptedEngine)
    assert runner.engine.closed == 4


async def test_no_tasks_are_no_groups(make: Make) -> None:
    assert await make().run_groups([], 4) == []
