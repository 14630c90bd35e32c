"""Chat messages in one canonical form, whatever door they came through.

AgentScope's formatters, the OpenAI protocol and plain dictionaries spell the same conversation in
different ways. Here each message becomes ``{"role", "content": str}`` plus, where they exist,
``tool_calls`` (``{"name", "arguments": dict | str}``), ``reasoning_content``, ``name`` and
``tool_call_id``. Arguments are a dictionary; a string is the raw text of a call that did not parse.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]

#: Name under which a framework is handed a call that could not be parsed.
INVALID_TOOL_CALL = "invalid_tool_call"

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


class MessageError(ValueError):
    """A message that no chat template can render. The text says which one and why."""


def normalise_messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Returns ``messages`` in canonical form.

    Raises:
        MessageError: the list is empty, or a message has an unknown role or content that is not text.
    """
    if not messages:
        raise MessageError("messages is empty: a model call needs at least one message")
    return [_normalise(message, position) for position, message in enumerate(messages)]


def message_key(message: Message) -> str:
    """Text that is equal for messages that say the same: role, content and tool calls, in order."""
    calls = [(call["name"], call["arguments"]) for call in message.get("tool_calls", ())]
    return json.dumps([message["role"], message["content"], calls], sort_keys=True)


def spoken(message: Mapping[str, Any]) -> str:
    """What an assistant's message said, its thoughts included where the renderer set them apart; without tool calls."""
    content = str(message.get("content") or "").strip()
    thoughts = str(message.get("reasoning_content") or "").strip()
    return f"<think>{thoughts}</think>\n{content}".strip() if thoughts else content


def renderable(message: Message) -> Message:
    """Returns the message as chat templates expect it: OpenAI's call envelope, malformed calls as text."""
    if "tool_calls" not in message:
        return message
    calls, text = [], [message["content"]] if message["content"] else []
    for call in message["tool_calls"]:
        if isinstance(call["arguments"], str):
            text.append(f"<tool_call>\n{call['arguments']}\n</tool_call>")
        else:
            calls.append({"type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}})
    rendered = {key: value for key, value in message.items() if key != "tool_calls"} | {"content": "\n".join(text)}
    return rendered | {"tool_calls": calls} if calls else rendered


def _normalise(message: Mapping[str, Any], position: int) -> Message:
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        raise MessageError(f"messages[{position}] has the role {message.get('role')!r}; known: {', '.join(_ROLES)}")
    canonical: Message = {"role": role, "content": _text(message.get("content"), position)}
    calls = message.get("tool_calls") or ()
    if calls:
        canonical["tool_calls"] = [_normalise_call(call, position) for call in calls]
    for key in ("reasoning_content", "name", "tool_call_id"):
        if isinstance(message.get(key), str):
            canonical[key] = message[key]
    return canonical


def _text(content: Any, position: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise MessageError(
            f"messages[{position}].content is {type(content).__name__}, expected text or a list of parts"
        )
    return "".join(_part_text(part, position) for part in content)


def _part_text(part: Any, position: int) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type", "text") == "text" and "text" in part:
        return str(part["text"] or "")
    kind = part.get("type") or next(iter(part), "?") if isinstance(part, Mapping) else type(part).__name__
    raise MessageError(f"messages[{position}].content holds a part of type {kind!r}; this model reads text only")


def _normalise_call(call: Mapping[str, Any], position: int) -> dict[str, Any]:
    function = call.get("function") or call
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise MessageError(f"messages[{position}].tool_calls holds a call without a function name")
    arguments = function.get("arguments")
    if name == INVALID_TOOL_CALL:
        return {"name": name, "arguments": _raw_text(arguments)}
    return {"name": name, "arguments": _arguments(arguments)}


def _raw_text(arguments: Any) -> str:
    """The text of a call that did not parse, as one door (a string) or the other (``{"raw": text}``) holds it."""
    wrapped = _arguments(arguments)
    if isinstance(wrapped, dict) and set(wrapped) == {"raw"}:
        return str(wrapped["raw"])
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _arguments(arguments: Any) -> dict[str, Any] | str:
    if arguments is None or arguments == "":
        return {}
    if isinstance(arguments, Mapping):
        return dict(arguments)
    try:
        parsed = json.loads(arguments)
    except (TypeError, ValueError, RecursionError):
        return str(arguments)
    return parsed if isinstance(parsed, dict) else str(arguments)
