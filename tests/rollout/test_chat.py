"""Rendering, bridging and parsing by token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, Qwen2Tokenizer

from astune.errors import ModelError
from astune.models import nano
from astune.rollout.chat import ChatRenderer, pick_renderer
from astune.rollout.lean_tokenizer import LeanTokenizer
from astune.rollout.messages import MessageError, message_key, normalise_messages
from tests.rollout.fake_engine import (
    CODE_TOOL,
    QWEN3_TOKENS,
    QWEN25_TEMPLATE,
    QWEN25_TOKENS,
    call_text,
    small_tokenizer,
)

OPENING = [{"role": "system", "content": "Rules."}, {"role": "user", "content": "How many?"}]


@pytest.fixture(scope="module")
def qwen3() -> ChatRenderer:
    return pick_renderer(small_tokenizer())


@pytest.fixture(scope="module")
def qwen25() -> ChatRenderer:
    return pick_renderer(small_tokenizer(QWEN25_TOKENS, QWEN25_TEMPLATE))


def said(renderer: ChatRenderer, text: str) -> list[int]:
    tokenizer = renderer.tokenizer
    return [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]


def parsed(renderer: ChatRenderer, text: str) -> dict[str, Any]:
    return renderer.parse(said(renderer, text), renderer.render(OPENING, [CODE_TOOL]), [CODE_TOOL])


def test_the_bundled_policy_gets_qwen3s_renderer() -> None:
    assert pick_renderer(AutoTokenizer.from_pretrained(nano.NANO_PATH)).name == "qwen3"


def test_qwen3_tokens_without_a_template_get_qwen3s_renderer(qwen3: ChatRenderer) -> None:
    assert qwen3.name == "qwen3"


def test_qwen25_keeps_its_own_template(qwen25: ChatRenderer) -> None:
    assert qwen25.name == "default"
    opening = qwen25.decode(qwen25.render(OPENING[1:], [CODE_TOOL]))
    assert opening.startswith("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud.")
    assert json.dumps(CODE_TOOL) in opening


def test_a_template_that_differs_from_qwen3s_wins_over_the_tokens() -> None:
    assert pick_renderer(small_tokenizer(QWEN3_TOKENS, QWEN25_TEMPLATE)).name == "default"


def test_qwens_own_tokenizer_class_gets_qwen3s_renderer(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    made = Qwen2Tokenizer.from_pretrained(tmp_path)
    assert made.unk_token == "<|endoftext|>"
    assert pick_renderer(made).name == "qwen3"


def test_no_template_and_no_known_tokens_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ModelError, match=r"no chat template: add chat_template\.jinja"):
        pick_renderer(small_tokenizer(QWEN25_TOKENS))


def test_a_named_renderer_that_lacks_its_tokens_names_them() -> None:
    with pytest.raises(ModelError, match="<tool_response>"):
        pick_renderer(small_tokenizer(QWEN25_TOKENS, QWEN25_TEMPLATE), "qwen3")


def test_an_unknown_renderer_is_an_error() -> None:
    with pytest.raises(ModelError, match="qwen99"):
        pick_renderer(small_tokenizer(), "qwen99")


@pytest.mark.parametrize("family", ["qwen3", "qwen25"])
class TestEachFamily:
    @pytest.fixture
    def renderer(self, family: str, request: pytest.FixtureRequest) -> ChatRenderer:
        found = request.getfixturevalue(family)
        assert isinstance(found, ChatRenderer)
        return found

    def test_text_and_call_are_both_kept(self, renderer: ChatRenderer) -> None:
        message = parsed(renderer, call_text("print(1)"))
        assert message["content"] == "Compute it."
        assert message["tool_calls"] == [
            {"name": "execute_python_code", "arguments": {"code": "print(1)"}, "status": "ok"}
        ]

    def test_text_after_a_call_is_kept(self, renderer: ChatRenderer) -> None:
        message = parsed(renderer, call_text("print(1)") + "\nThe answer is \\boxed{1}.")
        assert message["content"] == "Compute it.\nThe answer is \\boxed{1}."

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ('{"name": "execute_python_code", "arguments": {"code": "print(1)"}', "invalid_json"),
            ('{"arguments": {"code": "print(1)"}}', "missing_name"),
            ('{"name": "execute_python_code", "arguments": "print(1)"}', "malformed_structure"),
            ('{"name": 7, "arguments": {}}', "malformed_structure"),
            ('{"name": "f", "arguments": {"code": "\\ud800"}}', "malformed_structure"),
            ("[1, 2]", "missing_name"),
        ],
    )
    def test_a_call_that_does_not_parse_is_an_invalid_tool_call(
        self, renderer: ChatRenderer, body: str, status: str
    ) -> None:
        [call] = parsed(renderer, f"So.\n<tool_call>\n{body}\n</tool_call>")["tool_calls"]
        assert call == {"name": "invalid_tool_call", "arguments": body, "status": status}

    def test_a_block_that_is_never_closed_is_malformed(self, renderer: ChatRenderer) -> None:
        [call] = parsed(renderer, 'So.\n<tool_call>\n{"name": "f"')["tool_calls"]
        assert call["status"] == "unclosed_block"

    def test_a_block_that_was_never_opened_is_malformed(self, renderer: ChatRenderer) -> None:
        message = parsed(renderer, '{"name": "f", "arguments": {}}\n</tool_call>')
        assert [call["status"] for call in message["tool_calls"]] == ["malformed_structure"]

    @pytest.mark.parametrize("body", ["9" * 5000, "[" * 3000], ids=["huge number", "deep nesting"])
    def test_json_that_the_parser_gives_up_on_is_malformed(self, renderer: ChatRenderer, body: str) -> None:
        message = parsed(renderer, f'A.\n<tool_call>\n{{"name": "f", "arguments": {{"x": {body}}}}}\n</tool_call>')
        assert [call["name"] for call in message["tool_calls"]] == ["invalid_tool_call"]

    def test_a_bridge_keeps_the_sampled_ids_and_adds_what_the_template_adds(self, renderer: ChatRenderer) -> None:
        prompt, completion = renderer.render(OPENING, [CODE_TOOL]), said(renderer, call_text("print(1)"))
        history = [*OPENING, *normalise_messages([renderer.parse(completion, prompt)])]
        new = [{"role": "tool", "content": "1"}]
        bridged = renderer.bridge(history, prompt + completion, len(prompt), new, [CODE_TOOL])
        assert bridged is not None
        assert bridged[: len(prompt) + len(completion)] == prompt + completion
        assert renderer.decode(bridged) == renderer.decode(renderer.render([*history, *new], [CODE_TOOL]))

    def test_a_bridge_closes_a_completion_that_was_cut_off(self, renderer: ChatRenderer) -> None:
        prompt, completion = renderer.render(OPENING), said(renderer, "The answer")[:-1]
        history = [*OPENING, {"role": "assistant", "content": "The answer"}]
        bridged = renderer.bridge(
            history, prompt + completion, len(prompt), [{"role": "user", "content": "Go on."}], None
        )
        assert bridged is not None
        assert renderer.decode(bridged).endswith(
            "The answer<|im_end|>\n<|im_start|>user\nGo on.<|im_end|>\n<|im_start|>assistant\n"
        )

    def test_sampled_spelling_survives_where_a_template_would_write_it_otherwise(self, renderer: ChatRenderer) -> None:
        spelled = '<tool_call>\n{"arguments":{"code":"print(1)"},"name":"execute_python_code"}\n</tool_call>'
        prompt, completion = renderer.render(OPENING, [CODE_TOOL]), said(renderer, spelled)
        history = [*OPENING, *normalise_messages([renderer.parse(completion, prompt)])]
        bridged = renderer.bridge(
            history, prompt + completion, len(prompt), [{"role": "tool", "content": "1"}], [CODE_TOOL]
        )
        assert bridged is not None
        assert spelled in renderer.decode(bridged)


def test_a_template_that_opens_thinking_in_its_last_answer_is_bridged() -> None:
    template = (Path(nano.__file__).parent / "chat_template.jinja").read_text()
    renderer = pick_renderer(small_tokenizer(template=template), "default")
    prompt, completion = renderer.render(OPENING, [CODE_TOOL]), said(renderer, call_text("print(1)"))
    history = [*OPENING, *normalise_messages([renderer.parse(completion, prompt)])]
    new = [{"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}]
    bridged = renderer.bridge(history, prompt + completion, len(prompt), new, [CODE_TOOL])
    assert bridged is not None
    assert renderer.decode(bridged) == renderer.decode(renderer.render([*history, *new], [CODE_TOOL]))


def test_reasoning_is_dropped_by_qwen3s_template_so_a_user_message_is_not_bridged(qwen3: ChatRenderer) -> None:
    prompt, completion = qwen3.render(OPENING), said(qwen3, "<think>\nhm\n</think>\n\nFour.")
    [answer] = normalise_messages([qwen3.parse(completion, prompt)])
    assert answer["reasoning_content"] == "hm"
    new = [{"role": "user", "content": "Sure?"}]
    assert qwen3.bridge([*OPENING, answer], prompt + completion, len(prompt), new, None) is None


def test_the_two_spellings_of_one_conversation_have_equal_keys() -> None:
    openai = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1,  "y":[2]}'}}],
    }
    agentscope = {"role": "assistant", "content": [], "tool_calls": [{"name": "f", "arguments": {"y": [2], "x": 1}}]}
    [one], [other] = normalise_messages([openai]), normalise_messages([agentscope])
    assert message_key(one) == message_key(other)


@pytest.mark.parametrize(
    ("message", "said_in_the_error"),
    [
        ({"role": "robot", "content": "x"}, "robot"),
        ({"role": "user", "content": [{"image": "x.png"}]}, "image"),
        ({"role": "user", "content": 7}, "int"),
        ({"role": "assistant", "content": "", "tool_calls": [{"function": {"arguments": "{}"}}]}, "function name"),
    ],
)
def test_a_message_that_cannot_be_rendered_is_named(message: dict[str, Any], said_in_the_error: str) -> None:
    with pytest.raises(MessageError, match=rf"messages\[1\].*{said_in_the_error}"):
        normalise_messages([{"role": "user", "content": "hi"}, message])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(content=st.text(st.characters(codec="utf-8")), arguments=st.dictionaries(st.text(max_size=5), _JSON, max_size=3))
def test_normalising_twice_changes_nothing(content: str, arguments: dict[str, Any]) -> None:
    call = {"function": {"name": "f", "arguments": json.dumps(arguments)}}
    once = normalise_messages([{"role": "assistant", "content": [{"text": content}], "tool_calls": [call]}])
    assert normalise_messages(once) == once


@given(text=st.text(st.characters(codec="utf-8")) | st.sampled_from(["assistant\n", "<|im_start|>user\n", "\n"]))
def test_the_lean_tokenizer_encodes_as_the_full_one(qwen3: ChatRenderer, text: str) -> None:
    lean = LeanTokenizer(qwen3.tokenizer)
    for _ in range(2):
        assert lean.encode(text, add_special_tokens=False) == qwen3.tokenizer.encode(text, add_special_tokens=False)
