"""OpenAI's chat completions protocol: what a request asks for, and how an answer and an error look."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from astune.rollout.messages import INVALID_TOOL_CALL, Message
from astune.trace import StopReason, Turn

#: Parameters that would change what is sampled in ways this endpoint does not offer, and the values that ask nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "stop": ([], ""),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "response_format": ({"type": "text"},),
    "functions": ([],),
}


class RequestError(Exception):
    """A request that is answered with an error, in OpenAI's form."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def body(self) -> dict[str, Any]:
        """The JSON body of the error response."""
        kind = "authentication_error" if self.status == 401 else "server_error" if self.status >= 500 else None
        error = {
            "message": self.message,
            "type": kind or "invalid_request_error",
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a client asked for. Temperature and top_p are checked and left out: sampling is the run's."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    max_tokens: int | None
    stream: bool
    include_usage: bool
    logprobs: bool


def read_request(body: Any) -> ChatRequest:
    """Reads the JSON body of ``POST /v1/chat/completions``.

    Raises:
        RequestError: with status 400, naming the parameter.
    """
    if not isinstance(body, dict):
        raise RequestError(400, "the body must be a JSON object")
    for name, neutral in _NEUTRAL.items():
        if body.get(name) is not None and body[name] not in neutral:
            raise RequestError(400, f"{name} is not supported by this endpoint", "unsupported_parameter", name)
    for name, high in (("temperature", 2), ("top_p", 1)):
        _number(body, name, 0, high)
    limit = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    max_tokens = _number(body, limit, 1, None, whole=True)
    return ChatRequest(
        messages=_objects(body, "messages"),
        tools=_objects(body, "tools"),
        max_tokens=None if max_tokens is None else int(max_tokens),
        stream=bool(body.get("stream")),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        logprobs=bool(body.get("logprobs")),
    )


def completion(
    answer: Message, turn: Turn, identity: Mapping[str, Any], call_ids: Iterator[str], logprobs: Any
) -> dict[str, Any]:
    """The response body. ``identity`` holds ``id``, ``created`` and ``model``."""
    message: dict[str, Any] = {"role": "assistant", "content": answer["content"] or None, "refusal": None}
    if answer.get("tool_calls"):
        message["tool_calls"] = [_call(call, next(call_ids)) for call in answer["tool_calls"]]
    choice = {"index": 0, "message": message, "finish_reason": _finish_reason(turn), "logprobs": logprobs}
    return {**identity, "object": "chat.completion", "choices": [choice], "usage": usage(turn)}


def chunks(response: Mapping[str, Any], include_usage: bool) -> Iterator[str]:
    """The same response as server-sent events: role, text, calls, end, and usage where it was asked for."""
    [choice] = response["choices"]
    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if message["content"]:
        deltas.append({"content": message["content"]})
    deltas += [
        {"tool_calls": [{"index": position, **call}]} for position, call in enumerate(message.get("tool_calls", ()))
    ]
    head = {key: response[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    for position, delta in enumerate([*deltas, {}]):
        last = position == len(deltas)
        part = {"index": 0, "delta": delta, "finish_reason": choice["finish_reason"] if last else None}
        if last:
            part["logprobs"] = choice["logprobs"]
        yield _event({**head, "choices": [part]})
    if include_usage:
        yield _event({**head, "choices": [], "usage": response["usage"]})
    yield "data: [DONE]\n\n"


def usage(turn: Turn) -> dict[str, Any]:
    """Token counts of one call."""
    prompt, sampled = len(turn.prompt_ids), len(turn.completion_ids)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": sampled,
        "total_tokens": prompt + sampled,
        "prompt_tokens_details": {"cached_tokens": turn.cached_tokens},
    }


def _call(call: Mapping[str, Any], call_id: str) -> dict[str, Any]:
    raw = call["name"] == INVALID_TOOL_CALL
    arguments = call["arguments"] if raw else json.dumps(call["arguments"], ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": call["name"], "arguments": arguments}}


def _finish_reason(turn: Turn) -> str:
    if turn.stop_reason is StopReason.TOOL_CALL:
        return "tool_calls"
    return "length" if turn.stop_reason is StopReason.LENGTH else "stop"


def _event(body: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


def _objects(body: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RequestError(400, f"{name} must be a list of objects", "invalid_type", name)
    return value


def _number(
    body: Mapping[str, Any], name: str, low: float, high: float | None, *, whole: bool = False
) -> float | int | None:
    value = body.get(name)
    if value is None:
        return None
    right_type = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not right_type or value < low or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"between {low} and {high}"
        raise RequestError(400, f"{name} must be a number {limits}, got {value!r}", "invalid_value", name)
    return int(value) if whole else float(value)
