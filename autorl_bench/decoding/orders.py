"""What the two processes say to each other. Frames of JSON, see :mod:`astune.tools.frames`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from astune.errors import AstuneError, EngineError, ModelError
from autorl_bench.policy import EvaluationFailure, InvalidModel, not_finite

#: A sign of life while nothing else is said, in seconds.
HEARTBEAT = 5.0

Prompt = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Order:
    """Prompts to complete greedily with the weights of one folder.

    Attributes:
        weights: folder whose safetensors are read.
        base: folder that everything else is taken from.
        prompts: messages of each, as pairs of role and content.
        max_tokens: of one completion; None: as many as the context has room for.
        max_context: tokens of prompt and completion; None: the model's own limit.
        max_batch: rows that run at once.
        renderer: chat renderer, see :func:`~astune.rollout.chat.pick_renderer`.
        threads: of the tensor library.
    """

    weights: str
    base: str
    prompts: tuple[Prompt, ...]
    max_tokens: int | None
    max_context: int | None
    max_batch: int
    renderer: str
    threads: int

    def frame(self) -> dict[str, Any]:
        """As a message."""
        return asdict(self)

    @classmethod
    def of(cls, frame: Mapping[str, Any]) -> Order:
        """From a message: JSON has lists where there were tuples."""
        prompts = tuple(_prompt(prompt) for prompt in frame["prompts"])
        return cls(**{**frame, "prompts": prompts})


def _prompt(pairs: Sequence[Sequence[str]]) -> Prompt:
    return tuple((role, content) for role, content in pairs)


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model said to one prompt.

    Attributes:
        text: without special tokens.
        stop: Inspect's word: ``stop``, ``max_tokens`` (cut), ``model_length`` (the prompt leaves no room).
        input_tokens, output_tokens: of prompt and completion.
    """

    text: str
    stop: str
    input_tokens: int
    output_tokens: int


def error_frame(error: Exception) -> dict[str, Any]:
    """An error as a message."""
    error = not_finite(error) or error
    if isinstance(error, InvalidModel | EvaluationFailure):
        return {"error": type(error).__name__, "code": error.reason.code, "message": error.reason.message}
    if isinstance(error, ModelError):
        return {"error": "ModelError", "code": "", "message": str(error)}
    code = "engine" if isinstance(error, EngineError) else "decoding"
    return {"error": "EvaluationFailure", "code": code, "message": f"{type(error).__name__}: {error}"}


def error_of(frame: Mapping[str, Any]) -> AstuneError:
    """The error of a message."""
    if frame["error"] == "ModelError":
        return ModelError(frame["message"])
    kind = InvalidModel if frame["error"] == "InvalidModel" else EvaluationFailure
    return kind(frame["code"], frame["message"])
