"""What the recorder makes of model calls: continued ids, or a new start with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from astune.errors import ContextOverflow, EpisodeTimeout, TurnLimit
from astune.rollout.chat import ChatRenderer, pick_renderer
from astune.rollout.messages import Message
from astune.rollout.session import ChatSession, stream_seed
from astune.rollout.types import Sampling
from astune.trace import StopReason
from tests.rollout.fake_engine import (
    CODE_TOOL,
    QWEN25_TEMPLATE,
    QWEN25_TOKENS,
    FakeScriptedEngine,
    call_text,
    small_tokenizer,
)

USER: Message = {"role": "user", "content": "How many?"}
HINT: Message = {"role": "user", "content": "<system-hint>Go on.</system-hint>"}
TOOL: Message = {"role": "tool", "content": "18", "name": "execute_python_code"}


@pytest.fixture(scope="module", params=["qwen3", "qwen25"])
def renderer(request: pytest.FixtureRequest) -> ChatRenderer:
    if request.param == "qwen3":
        return pick_renderer(small_tokenizer())
    return pick_renderer(small_tokenizer(QWEN25_TOKENS, QWEN25_TEMPLATE))


def session_of(renderer: ChatRenderer, script: list[str], **options: Any) -> ChatSession:
    engine = FakeScriptedEngine(renderer.tokenizer, script, max_context=options.pop("max_context", 4096))
    return ChatSession(engine, renderer, options.pop("sampling", Sampling(max_tokens=512)), **options)


async def test_a_tool_conversation_is_one_trajectory(renderer: ChatRenderer) -> None:
    session = session_of(renderer, [call_text("print(18)"), "The answer is \\boxed{18}."])
    answer, first = await session.chat([USER], [CODE_TOOL])
    await session.chat([USER, answer, TOOL], [CODE_TOOL])
    [trajectory], reasons = session.trajectories()
    assert not reasons
    assert first.stop_reason is StopReason.TOOL_CALL
    assert trajectory.turns[1].stop_reason is StopReason.EOS


async def test_what_was_sampled_is_never_tokenised_again(renderer: ChatRenderer) -> None:
    odd = '<tool_call>\n{ "arguments" : {"code": "print(1)"}, "name": "execute_python_code" }\n</tool_call>'
    session = session_of(renderer, [odd, "1"])
    answer, first = await session.chat([USER], [CODE_TOOL])
    _, second = await session.chat([USER, answer, TOOL], [CODE_TOOL])
    ids = first.prompt_ids + first.completion_ids
    assert second.prompt_ids[: len(ids)] == ids


async def test_a_malformed_call_stays_in_the_trajectory(renderer: ChatRenderer) -> None:
    session = session_of(renderer, ['A.\n<tool_call>\n{"name": execute}\n</tool_call>', "1"])
    answer, _ = await session.chat([USER], [CODE_TOOL])
    observation = {"role": "tool", "content": "FunctionNotFoundError", "name": "invalid_tool_call"}
    await session.chat([USER, answer, observation], [CODE_TOOL])
    assert len(session.trajectories()[0]) == 1


async def test_a_deleted_hint_is_edited_history(renderer: ChatRenderer) -> None:
    session = session_of(renderer, ["Eighteen.", call_text("print(18)"), "So \\boxed{18}."])
    first, _ = await session.chat([USER], [CODE_TOOL])
    second, _ = await session.chat([USER, first, HINT], [CODE_TOOL])
    await session.chat([USER, first, second, TOOL], [CODE_TOOL])
    trajectories, reasons = session.trajectories()
    assert [len(t.turns) for t in trajectories] == [2, 1]
    assert reasons == {"edited_history": 1}


async def test_a_deleted_hint_is_edited_history_also_where_the_answers_spelling_is_odd(renderer: ChatRenderer) -> None:
    odd = '<tool_call>\n{ "arguments" : {"code": "print(1)"}, "name": "execute_python_code" }\n</tool_call>'
    session = session_of(renderer, [odd, "Eighteen.", "So \\boxed{18}."])
    first, _ = await session.chat([USER], [CODE_TOOL])
    second, _ = await session.chat([USER, first, TOOL, HINT], [CODE_TOOL])
    await session.chat([USER, first, TOOL, second, HINT], [CODE_TOOL])
    assert session.trajectories()[1] == {"edited_history": 1}


async def test_a_shortened_answer_in_the_history_is_edited_history(renderer: ChatRenderer) -> None:
    session = session_of(renderer, ["A long answer.", "B"])
    await session.chat([USER])
    await session.chat([USER, {"role": "assistant", "content": "A"}, HINT])
    assert session.trajectories()[1] == {"edited_history": 1}


async def test_other_tools_are_edited_history(renderer: ChatRenderer) -> None:
    session = session_of(renderer, ["A", "B"])
    first, _ = await session.chat([USER], [CODE_TOOL])
    await session.chat([USER, first, HINT], None)
    assert session.trajectories()[1] == {"edited_history": 1}


async def test_another_question_is_a_new_conversation(renderer: ChatRenderer) -> None:
    session = session_of(renderer, ["A", "B"])
    await session.chat([USER])
    await session.chat([HINT])
    assert session.trajectories()[1] == {"new_conversation": 1}


async def test_two_continuations_of_one_turn_each_keep_the_sampled_ids(renderer: ChatRenderer) -> None:
    session = session_of(renderer, ["A", "B", "C"])
    first, turn = await session.chat([USER])
    ids = turn.prompt_ids + turn.completion_ids
    _, second = await session.chat([USER, first, HINT])
    _, third = await session.chat([USER, first, {"role": "user", "content": "Or not?"}])
    assert second.prompt_ids[: len(ids)] == third.prompt_ids[: len(ids)] == ids
    assert session.trajectories()[1] == {"edited_history": 1}


async def test_reasoning_that_the_template_drops_is_counted_as_template() -> None:
    session = session_of(pick_renderer(small_tokenizer()), ["<think>\nhm\n</think>\n\nFour.", "Five."])
    first, _ = await session.chat([USER])
    await session.chat([USER, first, HINT])
    assert session.trajectories()[1] == {"template": 1}


async def test_a_refused_bridge_whose_text_matches_is_counted_as_retokenisation() -> None:
    renderer = pick_renderer(small_tokenizer())
    session = session_of(renderer, ["the", "B"])
    first, turn = await session.chat([USER])
    turn.completion_ids[:-1] = [renderer.tokenizer.convert_tokens_to_ids(letter) for letter in "the"]
    turn.logprobs = [-1.0] * len(turn.completion_ids)
    renderer.bridge = lambda *_: None  # type: ignore[method-assign]
    await session.chat([USER, first, HINT])
    assert session.trajectories()[1] == {"retokenisation": 1}


async def test_each_turn_has_its_own_stable_seed(renderer: ChatRenderer) -> None:
    session = session_of(renderer, ["A", "B"], stream=(7, 3, "gsm-1", 0))
    await session.chat([USER])
    await session.chat([HINT])
    assert isinstance(session.engine, FakeScriptedEngine)
    assert [s.seed for s in session.engine.samplings] == [stream_seed(7, 3, "gsm-1", 0, k) for k in (0, 1)]


def test_stream_seeds_are_the_same_on_every_machine() -> None:
    assert stream_seed(0, 1, "a", 2, 3) == 1982602124462502439


def test_stream_seeds_tell_parts_apart() -> None:
    assert len({stream_seed("ab", "c"), stream_seed("a", "bc"), stream_seed("abc")}) == 3


async def test_a_call_asks_for_no_more_than_the_context_holds(renderer: ChatRenderer) -> None:
    length = len(renderer.render([USER]))
    session = session_of(renderer, ["the answer is the answer is the answer"], max_context=length + 2)
    _, turn = await session.chat([USER])
    assert (len(turn.completion_ids), turn.stop_reason) == (2, StopReason.LENGTH)


async def test_a_full_context_names_both_lengths(renderer: ChatRenderer) -> None:
    length = len(renderer.render([USER]))
    with pytest.raises(ContextOverflow, match=rf"{length} tokens, the model's context holds {length}"):
        await session_of(renderer, ["A"], max_context=length).chat([USER])


async def test_a_call_may_lower_max_tokens_and_not_raise_it(renderer: ChatRenderer) -> None:
    session = session_of(renderer, ["A", "B"], sampling=Sampling(max_tokens=10))
    await session.chat([USER], max_tokens=3)
    await session.chat([HINT], max_tokens=30)
    assert isinstance(session.engine, FakeScriptedEngine)
    assert [s.max_tokens for s in session.engine.samplings] == [3, 10]


async def test_turns_are_limited(renderer: ChatRenderer) -> None:
    session = session_of(renderer, ["A", "B"], max_turns=1)
    await session.chat([USER])
    with pytest.raises(TurnLimit, match="more than 1 model calls"):
        await session.chat([HINT])


async def test_a_closed_session_samples_no_more(renderer: ChatRenderer) -> None:
    session = session_of(renderer, ["A"])
    session.close(EpisodeTimeout("over"))
    with pytest.raises(EpisodeTimeout, match="over"):
        await session.chat([USER])


async def test_what_a_workflow_does_to_its_message_leaves_the_record_alone(renderer: ChatRenderer) -> None:
    session = session_of(renderer, [call_text("print(18)")])
    answer, turn = await session.chat([USER], [CODE_TOOL])
    answer["tool_calls"][0]["arguments"]["code"] = "changed"
    answer["content"] = "changed"
    assert turn.message["content"] == "Compute it."
    assert turn.message["tool_calls"][0]["arguments"] == {"code": "print(18)"}
