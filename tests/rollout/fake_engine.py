"""A fake engine that says what a script tells it, and small real tokenizers with real chat templates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from astune.errors import ContextOverflow
from astune.rollout.types import Sampling
from astune.trace import StopReason, Turn

QWEN25_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")
QWEN3_TOKENS = (*QWEN25_TOKENS, "<tool_response>", "</tool_response>", "<think>", "</think>")

CODE_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "execute_python_code",
        "parameters": {
            "properties": {"code": {"description": "The Python code to run.", "type": "string"}},
            "required": ["code"],
            "type": "object",
        },
        "description": "Run Python code in a sandbox. Only what the code prints comes back, as stdout.",
    },
}

#: What Qwen2.5-Instruct's template renders, in fewer words: its default system prompt, its tools preamble.
QWEN25_TEMPLATE = r"""
{%- set system = 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' %}
{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}{% endif %}
{{- '<|im_start|>system\n' + system }}
{%- if tools %}
    {{- '\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n' }}
    {{- 'You are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}
    {%- for tool in tools %}{{ '\n' }}{{ tool | tojson }}{% endfor %}
    {{- '\n</tools>\n\nFor each function call, return a json object with function name and arguments within ' }}
    {{- '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}' }}
    {{- '\n</tool_call>' }}
{%- endif %}
{{- '<|im_end|>\n' }}
{%- for message in messages %}
    {%- if message.role == 'assistant' and message.tool_calls %}
        {{- '<|im_start|>assistant' }}
        {%- if message.content %}{{ '\n' + message.content }}{% endif %}
        {%- for call in message.tool_calls %}
            {{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson }}{{ '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}
    {%- elif not (loop.first and message.role == 'system') %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""


def small_tokenizer(tokens: tuple[str, ...] = QWEN3_TOKENS, template: str | None = None) -> PreTrainedTokenizerFast:
    """Byte-level BPE with a few merges, so that a text can have more than one tokenisation."""
    tokenizer = Tokenizer(models.BPE())
    words = Regex(r" ?\p{L}+|\p{N}|\n| ?[^\s\p{L}\p{N}]+|\s")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(["the answer is print system user assistant arguments name code stdout"] * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens[:3]])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens[3:]])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    if template is not None:
        made.chat_template = template
    return made


def call_text(code: str, before: str = "Compute it.") -> str:
    """What a model says to call the Python tool."""
    escaped = code.replace("\n", "\\n").replace('"', '\\"')
    call = f'{{"name": "execute_python_code", "arguments": {{"code": "{escaped}"}}}}'
    return f"{before}\n<tool_call>\n{call}\n</tool_call>"


def answer_text(result: str) -> str:
    """What a model says to hand in its answer on AgentScope."""
    call = f'{{"name": "generate_response", "arguments": {{"result": "\\\\boxed{{{result}}}"}}}}'
    return f"The answer is \\boxed{{{result}}}.\n<tool_call>\n{call}\n</tool_call>"


Script = Callable[[int, str], str]


class FakeScriptedEngine:
    """Says ``script(call index within the session, prompt text)``, with made-up log-probabilities."""

    def __init__(self, tokenizer: Any, script: Script | list[str], *, max_context: int = 4096) -> None:
        self.tokenizer = tokenizer
        self.script = script if callable(script) else (lambda index, _prompt: script[index])
        self.max_context = max_context
        self.samplings: list[Sampling] = []
        self.opened: list[tuple[int, ...]] = []
        self.closed = 0
        self._calls: dict[str | None, int] = {}

    @contextmanager
    def session(self, key: tuple[int, ...]) -> Iterator[str]:
        self.opened.append(key)
        try:
            yield str(key)
        finally:
            self.closed += 1

    async def generate(self, prompt_ids: list[int], sampling: Sampling, session: str | None = None) -> Turn:
        if len(prompt_ids) >= self.max_context:
            raise ContextOverflow("fake overflow")
        await asyncio.sleep(0)
        index = self._calls.get(session, 0)
        self._calls[session] = index + 1
        self.samplings.append(sampling)
        text = self.script(index, self.tokenizer.decode(prompt_ids))
        ids = [*self.tokenizer.encode(text, add_special_tokens=False), self.tokenizer.eos_token_id]
        reason = StopReason.EOS
        if len(ids) > sampling.max_tokens:
            ids, reason = ids[: sampling.max_tokens], StopReason.LENGTH
        return Turn(list(prompt_ids), ids, [-0.01 * (k + 1) for k in range(len(ids))], reason)
