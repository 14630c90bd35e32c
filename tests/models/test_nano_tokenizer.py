"""The bundled tokenizer and chat template, as the renderer and transformers see them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from renderers import Qwen3Renderer
from transformers import AutoTokenizer

from astune.models.nano import NANO_PATH
from astune.models.nano.prompts import AGENTSCOPE_TOOLS, PLAIN_TOOLS, math_messages, observation
from astune.models.nano.tokenizer import CONTROL_TOKENS, MARKUP_TOKENS

CALL = {"type": "function", "function": {"name": "execute_python_code", "arguments": {"code": "x = 3\nprint(x)"}}}
RESULT = {"role": "tool", "content": observation("3\n")}
QUESTION = math_messages("Tom has 3 pens. How many?")
CONVERSATIONS = {
    "first turn": QUESTION,
    "no system": QUESTION[1:],
    "tool result": [*QUESTION, {"role": "assistant", "content": "Plan.", "tool_calls": [CALL]}, RESULT],
    "call without text": [*QUESTION, {"role": "assistant", "content": "", "tool_calls": [CALL]}, RESULT],
    "two calls": [*QUESTION, {"role": "assistant", "content": "Plan.", "tool_calls": [CALL, CALL]}, RESULT, RESULT],
    "arguments as text": [
        *QUESTION,
        {"role": "assistant", "content": "P.", "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]},
        RESULT,
    ],
    "second question": [*QUESTION, {"role": "assistant", "content": "It is 3."}, {"role": "user", "content": "Sure?"}],
    "reasoning": [
        *QUESTION,
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nIt is 3.", "tool_calls": [CALL]},
        RESULT,
    ],
    "late system": [*QUESTION, {"role": "system", "content": "Be brief."}],
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO_PATH)


@pytest.mark.parametrize("tools", [AGENTSCOPE_TOOLS, PLAIN_TOOLS, None], ids=["agentscope", "plain", "none"])
@pytest.mark.parametrize("generation", [True, False], ids=["prompt", "history"])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_chat_template_renders_as_the_renderer_does(tokenizer, name, generation, tools):
    messages = CONVERSATIONS[name]
    ids = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=generation)["input_ids"]
    assert ids == Qwen3Renderer(tokenizer).render_ids(messages, tools=tools, add_generation_prompt=generation)


def test_finished_conversation_renders_as_the_renderer_does(tokenizer):
    messages = [*CONVERSATIONS["tool result"], {"role": "assistant", "content": "It is \\boxed{3}."}]
    ids = tokenizer.apply_chat_template(messages, tools=PLAIN_TOOLS)["input_ids"]
    assert ids == Qwen3Renderer(tokenizer).render_ids(messages, tools=PLAIN_TOOLS)


def test_template_can_switch_thinking_off(tokenizer):
    text = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False, enable_thinking=False)
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_survives_encoding(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_digits_are_tokens_of_their_own(tokenizer):
    assert tokenizer.tokenize("1024") == ["1", "0", "2", "4"]


@pytest.mark.parametrize("token", [*CONTROL_TOKENS, *MARKUP_TOKENS])
def test_special_tokens_are_single_ids(tokenizer, token):
    assert tokenizer.encode(token, add_special_tokens=False) == [tokenizer.convert_tokens_to_ids(token)]


def test_unknown_token_is_not_endoftext(tokenizer):
    assert tokenizer.unk_token_id is None


def test_turns_end_with_im_end(tokenizer):
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_markup_stays_visible_without_special_tokens(tokenizer):
    ids = tokenizer.encode("<|im_start|><tool_call>", add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<tool_call>"


def test_preamble_of_two_tools_is_short(tokenizer):
    prompt = tokenizer.apply_chat_template(QUESTION[:1], tools=AGENTSCOPE_TOOLS)["input_ids"]
    assert len(prompt) < 60
