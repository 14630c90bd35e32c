"""Sampling on TRL's own generation, for the rows that are refined and no others."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from trl.chat_template_utils import parse_response
from trl.data_utils import is_conversational, prepare_multimodal_messages

from astune.errors import EngineError
from astune.refine.prompts import Message, control_tokens, without_controls
from astune.refine.types import Sample, SampleRequest
from astune.trl.attempts import FirstAttempts, completion_text, content_text, images_of
from astune.trl.layout import TYPE_ID_FIELDS
from astune.trl.peers import Peers, filled


@dataclass(frozen=True, slots=True)
class TrlDetail:
    """What TRL needs of a sampled row besides its ids.

    ``completion`` is what reward functions are handed: a list of messages, or a text.
    ``type_ids`` holds, for each type-id field that the processor named, the ids of the prompt's tokens.
    """

    completion: Any
    type_ids: dict[str, list[int]]


class TrlSampler:
    """Samples with a TRL trainer's model, engine and generation settings (HF generate, paged, or vLLM).

    One call generates as many rows as there are requests: its cost grows with what is refined, not with the batch. A
    request for a row with images is shown that row's images, in their order, whoever wrote its messages. Tools are not
    offered: a critique or a refined attempt is one plain call.

    Where the model is spread over several processes, or served to all of them, each must call :meth:`sample` equally
    often; one without requests of its own takes part with a row that is thrown away.
    """

    def __init__(self, trainer: Any, peers: Peers) -> None:
        self._trainer = trainer
        self._peers = peers
        #: The batch whose rows the requests name; the trainer sets it before each refinement.
        self.first: FirstAttempts | None = None

    def sample(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """One sample for each request, in order.

        A prompt that leaves no room in the model's context is not sent: its sample says so in ``error``.

        Raises:
            EngineError: a request carries another number of images than its row has.
        """
        conversations = [self._conversation(request) for request in requests]
        with _without_tools(self._trainer):
            prompts = self._tokenized(conversations)
            lengths = [len(ids) for ids in prompts.ids]
            if max(lengths, default=0) >= self._context or self._peers.model_is_shared:
                short = [one for one, size in zip(conversations, lengths, strict=True) if size < self._context]
                prompts = self._tokenized(self._level(short))
            samples = iter(self._drawn(prompts))
        return [next(samples) if length < self._context else self._unsent(length) for length in lengths]

    def excess(self, messages: Sequence[Message]) -> int:
        """Tokens by which a prompt is too long for the context to hold a whole completion; 0 or less: it fits.

        Half of the context is what a completion may claim at most.
        """
        with _without_tools(self._trainer):
            prompt = len(self._tokenized([self._without_controls(messages)]).ids[0])
        longest: int = self._trainer.max_completion_length
        return prompt + min(longest, self._context // 2) - self._context

    def _conversation(self, request: SampleRequest) -> list[Message]:
        """The request's messages with the images of its row, and no control token spelled out in a text.

        Attempts and critiques are quoted in prompts. One that spells the image token would claim an image that is not
        there, which ends the run; one that spells an end of turn would speak for somebody else.
        """
        assert self.first is not None
        images = images_of(self.first.conversation(request.row))
        shown = images_of(request.messages)
        if len(shown) not in (0, len(images)):
            raise EngineError(
                f"the {request.role} request for row {request.row} shows {len(shown)} images, and its row has "
                f"{len(images)}: show them all, or none and they are added"
            )
        messages = self._without_controls(request.messages)
        if images and not shown:
            return list(prepare_multimodal_messages(_plain(messages), images=images))
        return messages

    def _without_controls(self, messages: Sequence[Message]) -> list[Message]:
        return without_controls(messages, control_tokens(self._trainer._tokenizer))

    def _level(self, conversations: list[list[Message]]) -> list[list[Message]]:
        """As many conversations as the process with the most has, where all processes sample together."""
        if not self._peers.model_is_shared:
            return conversations
        assert self.first is not None
        return filled(conversations, self._peers.largest(len(conversations)), self.first.conversation(0))

    def _tokenized(self, conversations: list[list[Message]]) -> _Prompts:
        return _Prompts(*self._trainer._tokenize_prompts(conversations)) if conversations else _Prompts([], None, {})

    def _drawn(self, prompts: _Prompts) -> list[Sample]:
        if not prompts.ids:
            return []
        # One completion a prompt: with more, vLLM's server would keep only every n-th prompt.
        drawn, logprobs = self._trainer._generate_single_turn(
            prompts.ids, prompts.images, prompts.fields, num_generations=1
        )
        completions = self._completions(prompts.ids, drawn)
        return [
            Sample(
                text=completion_text(completions[index]),
                prompt_ids=list(ids),
                completion_ids=list(drawn[index]),
                logprobs=None if logprobs is None else list(logprobs[index]),
                truncated=drawn[index][-1] not in self._ends,
                detail=TrlDetail(completions[index], _type_ids(prompts.fields, index)),
            )
            for index, ids in enumerate(prompts.ids)
        ]

    def _completions(self, prompt_ids: list[list[int]], completion_ids: list[list[int]]) -> list[Any]:
        """Completions as TRL hands them to reward functions."""
        tokenizer = self._trainer._tokenizer
        assert self.first is not None
        if not is_conversational({"prompt": self.first.prompts[0]}):
            return list(self._trainer.processing_class.batch_decode(completion_ids, skip_special_tokens=True))
        if getattr(tokenizer, "response_template", None) or getattr(tokenizer, "response_schema", None):
            return [
                [parse_response(tokenizer, ids, prefix=prefix, tools=[])]
                for prefix, ids in zip(prompt_ids, completion_ids, strict=True)
            ]
        texts = self._trainer.processing_class.batch_decode(completion_ids, skip_special_tokens=True)
        return [[{"role": "assistant", "content": text}] for text in texts]

    def _unsent(self, length: int) -> Sample:
        return Sample("", [], [], error=f"the prompt has {length} tokens, the model's context {self._context}")

    @property
    def _ends(self) -> set[int]:
        return {*self._trainer.eos_token_ids, self._trainer._tokenizer.pad_token_id}

    @property
    def _context(self) -> int:
        """Tokens that a prompt must stay below."""
        limits = [getattr(self._trainer.model.config.get_text_config(), "max_position_embeddings", None)]
        if self._trainer.use_vllm:
            limits.append(self._trainer.args.vllm_max_model_length)
        return min((limit for limit in limits if limit is not None), default=sys.maxsize)


@dataclass(frozen=True, slots=True)
class _Prompts:
    """What TRL makes of conversations: ids, images, and the processor's other fields."""

    ids: list[list[int]]
    images: list[Any] | None
    fields: dict[str, Any]


def _plain(messages: Sequence[Message]) -> list[Message]:
    """Messages whose contents are texts, so that TRL places the images as it does for a dataset's prompts."""
    return [{**message, "content": content_text(message.get("content"))} for message in messages]


def _type_ids(fields: dict[str, Any], index: int) -> dict[str, list[int]]:
    return {key: [int(value) for value in fields[key][index]] for key in TYPE_ID_FIELDS if key in fields}


@contextmanager
def _without_tools(trainer: Any) -> Iterator[None]:
    tools, trainer.tools = trainer.tools, []
    try:
        yield
    finally:
        trainer.tools = tools
