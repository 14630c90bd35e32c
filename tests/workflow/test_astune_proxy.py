"""The managed model through AgentScope's door, with the real ReActAgent."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from agentscope.agent import ReActAgent
from agentscope.formatter import DashScopeChatFormatter
from agentscope.memory import InMemoryMemory
from agentscope.message import Msg, TextBlock
from agentscope.tool import Toolkit, ToolResponse
from pydantic import BaseModel

from astune.errors import TurnLimit
from astune.rollout.chat import ChatRenderer, pick_renderer
from astune.rollout.session import ChatSession
from astune.rollout.types import Sampling
from astune.workflow.astune_proxy import AstuneProxy
from tests.rollout.fake_engine import FakeScriptedEngine, answer_text, call_text, small_tokenizer


class Result(BaseModel):
    result: str


async def execute_python_code(code: str) -> ToolResponse:
    """A fake tool: answers what a sandbox would."""
    return ToolResponse(content=[TextBlock(type="text", text=f"<stdout>{len(code)}</stdout>")])


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    return pick_renderer(small_tokenizer())


def proxy_of(renderer: ChatRenderer, script: list[str], **options: Any) -> AstuneProxy:
    engine = FakeScriptedEngine(renderer.tokenizer, script)
    return AstuneProxy(ChatSession(engine, renderer, Sampling(max_tokens=512), **options))


async def reply(proxy: AstuneProxy, max_iters: int = 10) -> Msg:
    toolkit = Toolkit()
    toolkit.register_tool_function(execute_python_code)
    agent = ReActAgent(
        name="agent",
        sys_prompt="Rules.",
        model=proxy,
        formatter=DashScopeChatFormatter(),
        toolkit=toolkit,
        memory=InMemoryMemory(),
        max_iters=max_iters,
    )
    agent.set_console_output_enabled(False)
    return await agent.reply(Msg("user", "How many?", role="user"), structured_model=Result)


async def test_a_good_episode_is_one_trajectory_and_yields_the_structured_answer(renderer: ChatRenderer) -> None:
    proxy = proxy_of(renderer, [call_text("print(18)"), answer_text("18")])
    result = await reply(proxy)
    trajectories, reasons = proxy.session.trajectories()
    assert result.metadata == {"result": "\\boxed{18}"}
    assert result.get_text_content() == "The answer is \\boxed{18}."
    assert (len(trajectories), reasons) == (1, {})


async def test_the_model_reads_the_tools_output(renderer: ChatRenderer) -> None:
    proxy = proxy_of(renderer, [call_text("print(18)"), answer_text("18")])
    await reply(proxy)
    [_, second] = proxy.session.turns
    assert "<tool_response>\n<stdout>9</stdout>\n</tool_response>" in renderer.decode(second.prompt_ids)


async def test_a_malformed_call_is_answered_by_agentscope_and_read_by_the_model(renderer: ChatRenderer) -> None:
    proxy = proxy_of(renderer, ['A.\n<tool_call>\n{"name": "exec\n</tool_call>', answer_text("1")])
    await reply(proxy)
    [first, second] = proxy.session.turns
    observation = "FunctionNotFoundError: Cannot find the function named invalid_tool_call"
    assert f"<tool_response>\n{observation}\n</tool_response>" in renderer.decode(second.prompt_ids)
    assert [call["status"] for call in first.message["tool_calls"]] == ["invalid_json"]
    assert len(proxy.session.trajectories()[0]) == 1


async def test_two_calls_in_one_turn_are_answered_in_one_trajectory(renderer: ChatRenderer) -> None:
    proxy = proxy_of(renderer, [call_text("a") + "\n" + call_text("bb", ""), answer_text("1")])
    await reply(proxy)
    assert len(proxy.session.trajectories()[0]) == 1


async def test_the_hint_that_agentscope_deletes_is_counted(renderer: ChatRenderer) -> None:
    proxy = proxy_of(renderer, ["Eighteen.", call_text("print(18)"), answer_text("18")])
    await reply(proxy)
    trajectories, reasons = proxy.session.trajectories()
    assert [len(t.turns) for t in trajectories] == [2, 1]
    assert reasons == {"edited_history": 1}


async def test_the_summary_after_too_many_turns_has_no_tools_and_is_edited_history(renderer: ChatRenderer) -> None:
    proxy = proxy_of(renderer, [call_text("print(18)"), "I give up."])
    await reply(proxy, max_iters=1)
    assert proxy.session.trajectories()[1] == {"edited_history": 1}


async def test_a_refusal_of_the_model_reaches_the_caller_of_the_agent(renderer: ChatRenderer) -> None:
    with pytest.raises(TurnLimit):
        await reply(proxy_of(renderer, [call_text("1")], max_turns=1))


async def test_usage_is_reported_in_tokens(renderer: ChatRenderer) -> None:
    proxy = proxy_of(renderer, ["A"])
    response = await proxy([{"role": "user", "content": "Q"}])
    [turn] = proxy.session.turns
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (len(turn.prompt_ids), 2)


async def test_structured_output_from_the_model_itself_says_what_to_do_instead(renderer: ChatRenderer) -> None:
    with pytest.raises(NotImplementedError, match="agent.reply"):
        await proxy_of(renderer, ["A"])([{"role": "user", "content": "Q"}], structured_model=Result)


async def test_agents_of_one_episode_share_its_record_under_their_names(renderer: ChatRenderer) -> None:
    proxy = proxy_of(renderer, ["A", "B"])
    await proxy.as_agent("critic").chat([{"role": "user", "content": "Q"}])
    await proxy.chat([{"role": "user", "content": "R"}])
    assert [turn.agent for turn in proxy.session.turns] == ["critic", "agent"]


def test_what_the_workflow_registers_is_kept_for_the_judge(renderer: ChatRenderer) -> None:
    proxy = proxy_of(renderer, [])
    proxy.update_judge_input_dictionary(final_answer="1")
    proxy.as_agent("other").update_judge_input_dictionary(steps=2)
    assert proxy.judge_input == {"final_answer": "1", "steps": 2}


def test_the_proxy_does_not_import_agentscope() -> None:
    code = "import sys, json, astune.workflow.astune_proxy; print(json.dumps('agentscope' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False
