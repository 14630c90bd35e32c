"""Chat rendering and parsing by token: messages to prompt ids, completion ids to a message.

The work is done by the ``renderers`` library. What is added here: the choice of a renderer for a
tokenizer by what its own chat template does, a bridge to the next turn for families that the library
knows only through their template, and the reading of calls that do not parse.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from renderers import DefaultRendererConfig, Qwen3RendererConfig, config_from_name, create_renderer
from renderers.base import MODEL_RENDERER_MAP

from astune.errors import ModelError
from astune.rollout.lean_tokenizer import LeanTokenizer
from astune.rollout.messages import INVALID_TOOL_CALL, Message, renderable

Tools = list[dict[str, Any]]

_QWEN3_TOKENS = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "</tool_call>",
    "<tool_response>", "</tool_response>", "</think>",
)  # fmt: skip

#: Takes an answer's place where only what follows it is wanted.
_STAND_IN = "The answer stands here."

_PROBE_TOOLS: Tools = [
    {
        "type": "function",
        "function": {
            "name": "probe",
            "description": "Probe.",
            "parameters": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
        },
    }
]
_PROBE: list[Message] = [
    {"role": "system", "content": "Rules."},
    {"role": "user", "content": "Question?"},
    {"role": "assistant", "content": "Text.", "tool_calls": [{"name": "probe", "arguments": {"code": "print(1)"}}]},
    {"role": "tool", "content": "1", "name": "probe"},
]


class ChatRenderer:
    """Renders, bridges and parses for one tokenizer.

    Args:
        tokenizer: a ``transformers`` tokenizer.
        renderer: the ``renderers`` object that does the work.
        follow_up: the same renderer with every bridge allowed, for histories without reasoning; None where
            the family has no such choice.
    """

    def __init__(self, tokenizer: Any, renderer: Any, follow_up: Any | None = None) -> None:
        self.tokenizer = tokenizer
        self.renderer = renderer
        self._follow_up = follow_up
        self._by_template = type(renderer).__name__ == "DefaultRenderer"
        self.stop_token_ids = _stop_token_ids(tokenizer, renderer)
        # The episodes of a group open alike: what they share is rendered once.
        self._opening = lru_cache(maxsize=256)(self._render_json)

    @property
    def name(self) -> str:
        """The library's name for the renderer: ``qwen3``, ``default``, ..."""
        return str(self.renderer.config.name)

    def render(self, messages: Sequence[Message], tools: Tools | None = None) -> list[int]:
        """Returns the prompt ids of a conversation, up to where the assistant speaks."""
        if all(message["role"] in ("system", "user") for message in messages):
            return list(self._opening(json.dumps([messages, tools or None])))
        return self._render(messages, tools or None)

    def _render(self, messages: Sequence[Message], tools: Tools | None) -> list[int]:
        prepared = [renderable(message) for message in messages]
        return list(self.renderer.render_ids(prepared, tools=tools, add_generation_prompt=True))

    def _render_json(self, conversation: str) -> tuple[int, ...]:
        return tuple(self._render(*json.loads(conversation)))

    def bridge(
        self,
        history: Sequence[Message],
        ids: Sequence[int],
        prompt_length: int,
        new: Sequence[Message],
        tools: Tools | None,
    ) -> list[int] | None:
        """Returns ``ids`` continued by ``new`` messages, or None where the chat template forbids that.

        ``history`` is the conversation that ``ids`` holds, the last assistant message included; the first
        ``prompt_length`` of ``ids`` were the prompt, the rest was sampled and is kept as it is.
        """
        if not new or any(message["role"] == "assistant" for message in new):
            return None
        if self._by_template:
            return self._bridge_by_template(history, ids, new, tools)
        prepared = [renderable(message) for message in new]
        reasons = any(message.get("reasoning_content") for message in history)
        for renderer in (self.renderer, None if reasons else self._follow_up):
            if renderer is not None:
                parts = list(ids[:prompt_length]), list(ids[prompt_length:])
                bridged = renderer.bridge_to_next_turn(*parts, prepared, tools=tools or None)
                if bridged is not None:
                    return list(bridged.token_ids)
        return None

    def _bridge_by_template(
        self, history: Sequence[Message], ids: Sequence[int], new: Sequence[Message], tools: Tools | None
    ) -> list[int] | None:
        """Puts behind the sampled ids what the template writes after the answer.

        A stand-in takes the answer's place, so that the template's own spelling of the answer plays no part. Where
        the conversation before it is not rendered as it was (a template that drops old reasoning), there is no bridge.
        """
        if any(message.get("reasoning_content") for message in history):
            return None
        before = self._template_text(history[:-1], tools)
        calls = history[-1].get("tool_calls")
        stand_in = {"role": "assistant", "content": _STAND_IN} | ({"tool_calls": calls} if calls else {})
        after = self._template_text([*history[:-1], stand_in, *new], tools)
        if not after.startswith(before + _STAND_IN):
            return None
        rest = after[len(before) + len(_STAND_IN) :]
        closes = [self.decode([token]) for token in self.stop_token_ids]
        end = min((rest.index(close) for close in closes if close in rest), default=None)
        if end is None or any(close in json.dumps(calls) for close in closes):
            return None
        tail = list(self.tokenizer.encode(rest[end:], add_special_tokens=False))
        closed = ids[-1] in self.stop_token_ids
        return list(ids) + (tail[1:] if closed else tail)

    def _template_text(self, messages: Sequence[Message], tools: Tools | None) -> str:
        prepared = [renderable(message) for message in messages]
        options: dict[str, Any] = {"tools": tools} if tools else {}
        text = self.tokenizer.apply_chat_template(prepared, tokenize=False, add_generation_prompt=True, **options)
        return str(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ``ids``, special tokens included."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def parse(self, completion_ids: list[int], prompt_ids: list[int], tools: Tools | None = None) -> Message:
        """Returns the assistant message that the completion says.

        ``tool_calls`` are ``{"name", "arguments", "status"}``; one that did not parse has the name
        ``invalid_tool_call`` and its raw text as arguments. Text before and after calls is kept.
        """
        ids = completion_ids[:-1] if completion_ids and completion_ids[-1] in self.stop_token_ids else completion_ids
        try:
            parsed = self.renderer.parse_response(completion_ids, tools=tools or None, prompt_ids=prompt_ids)
        except (ValueError, RecursionError):
            # json.loads gives up on numbers of thousands of digits and on deep nesting with these.
            return _unparsable(self.decode(ids))
        text = str(parsed.content or "").strip()
        calls = [_call(call) for call in parsed.tool_calls]
        spans = [call.token_span for call in parsed.tool_calls if call.token_span is not None]
        trailing = self.decode(ids[spans[-1][1] :]).strip() if spans else ""
        if not calls and "</tool_call>" in text:
            return _unparsable(text)
        message: Message = {"role": "assistant", "content": "\n".join(part for part in (text, trailing) if part)}
        if calls:
            message["tool_calls"] = calls
        if parsed.reasoning_content:
            message["reasoning_content"] = str(parsed.reasoning_content)
        return message


def pick_renderer(tokenizer: Any, name: str = "auto") -> ChatRenderer:
    """Returns the renderer for ``tokenizer``.

    ``auto`` takes Qwen3's where the tokenizer has its tokens and its chat template (if it has one) renders
    a tool conversation the same; else the one that the library registers under the tokenizer's name; else
    the tokenizer's own chat template. Other names are the library's (``qwen3``, ``llama-3``, ``default``, ...).

    Raises:
        ModelError: there is no chat template to fall back on, or the named renderer does not fit the tokenizer.
    """
    if name not in ("auto", "qwen3", "default"):
        return _named(tokenizer, name)
    if name != "default":
        missing = [token for token in _QWEN3_TOKENS if not _has_token(tokenizer, token)]
        if name == "qwen3" and missing:
            raise ModelError(f"renderer qwen3 needs tokens that the tokenizer lacks: {', '.join(missing)}; use 'auto'")
        if not missing and (name == "qwen3" or _renders_like_qwen3(tokenizer)):
            return _qwen3(tokenizer)
        registered = MODEL_RENDERER_MAP.get(getattr(tokenizer, "name_or_path", ""))
        if registered is not None:
            return _named(tokenizer, registered)
    if not getattr(tokenizer, "chat_template", None):
        where = getattr(tokenizer, "name_or_path", "") or "the tokenizer"
        raise ModelError(
            f"{where} has no chat template: add chat_template.jinja to the model folder, or name a renderer"
        )
    return ChatRenderer(
        tokenizer, create_renderer(tokenizer, DefaultRendererConfig(tool_parser=_tool_parser(tokenizer)))
    )


def _named(tokenizer: Any, name: str) -> ChatRenderer:
    try:
        return ChatRenderer(tokenizer, create_renderer(tokenizer, config_from_name(name)))
    except (ValueError, AssertionError) as error:
        raise ModelError(f"renderer {name!r} cannot be used with this tokenizer: {error}") from error


def _qwen3(tokenizer: Any) -> ChatRenderer:
    lean = LeanTokenizer(tokenizer)
    configs = Qwen3RendererConfig(), Qwen3RendererConfig(thinking_retention="all")
    return ChatRenderer(tokenizer, *(create_renderer(lean, config) for config in configs))


def _renders_like_qwen3(tokenizer: Any) -> bool:
    if not getattr(tokenizer, "chat_template", None):
        return True
    by_template = ChatRenderer(tokenizer, create_renderer(tokenizer, DefaultRendererConfig()))
    qwen3 = _qwen3(tokenizer)
    probes: list[tuple[list[Message], Tools | None]] = [(_PROBE, _PROBE_TOOLS), (_PROBE[1:2], None)]
    return all(qwen3.render(*probe) == by_template.render(*probe) for probe in probes)


def _tool_parser(tokenizer: Any) -> str | None:
    if not _has_token(tokenizer, "<tool_call>"):
        return None
    return "qwen3.5" if "<function=" in str(tokenizer.chat_template) else "qwen3"


def _has_token(tokenizer: Any, token: str) -> bool:
    token_id = tokenizer.convert_tokens_to_ids(token)
    return token_id is not None and tokenizer.convert_ids_to_tokens(token_id) == token


def _stop_token_ids(tokenizer: Any, renderer: Any) -> tuple[int, ...]:
    ids = {int(token) for token in renderer.get_stop_token_ids()}
    # A base model's tokenizer names <|endoftext|> as its end; its chat turns close with <|im_end|> all the same.
    ids |= {
        tokenizer.convert_tokens_to_ids(token)
        for token in ("<|im_end|>", "<|endoftext|>")
        if _has_token(tokenizer, token)
    }
    return tuple(sorted(ids))


def _call(call: Any) -> dict[str, Any]:
    status = str(call.status)
    if status == "ok" and not (
        isinstance(call.name, str) and isinstance(call.arguments, dict) and _is_utf8(call.arguments)
    ):
        status = "malformed_structure"
    if status == "ok":
        return {"name": call.name, "arguments": call.arguments, "status": status}
    return {"name": INVALID_TOOL_CALL, "arguments": str(call.raw), "status": status}


def _is_utf8(arguments: dict[str, Any]) -> bool:
    """Whether the arguments can be passed on: JSON's escapes allow half surrogate pairs, UTF-8 does not."""
    try:
        json.dumps(arguments, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _unparsable(text: str) -> Message:
    before, _, raw = text.partition("<tool_call>")
    if not raw:
        before, raw = "", before
    call = {
        "name": INVALID_TOOL_CALL,
        "arguments": raw.replace("</tool_call>", "").strip(),
        "status": "malformed_structure",
    }
    return {"role": "assistant", "content": before.strip(), "tool_calls": [call]}
