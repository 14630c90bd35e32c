"""The policy's tokenizer: byte-level BPE with Qwen's special tokens, trained on the recipe's own text.

Three choices keep episodes short. Digits are tokens of their own, and an operator with its two spaces is
one, so numbers are copied token by token. ``\\n`` inside a JSON string is one token. And the fixed wording of
prompts and calls (tool schemas, system prompts, call scaffolds) is a list of phrases, each one token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from astune.models.nano.prompts import (
    CRITIQUE_SYSTEM,
    EXECUTE_PYTHON_CODE,
    GENERATE_RESPONSE,
    INVALID_CALL_OBSERVATION,
    MATH_SYSTEM,
    REFINE_SYSTEM,
)

MAX_CONTEXT = 2048

#: Hidden from decoded text with ``skip_special_tokens``; the others below are not, as in Qwen's tokenizers.
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>")
MARKUP_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")

_PATTERN = (
    r" (?:=|\+|-|\*|//) "  # an operator with its spaces
    r"|\\n|\\"  # a JSON-escaped newline
    r"|print\("
    r"|'(?:s|t|re|ve|m|ll|d)(?!\p{L})"
    r"| ?\p{L}+"
    r"|\p{N}"  # one digit
    r"| ?[^\s\p{L}\p{N}\\]+"
    r"|\n"
    r"|\s"
)

_TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def _schema_phrases(tool: dict[str, object]) -> list[str]:
    """Everything in a tool's JSON after its name, as one phrase."""
    text = json.dumps(tool, ensure_ascii=False)
    return [text[text.index('", "parameters"') :]]


def phrases() -> list[str]:
    """The fixed wordings that are one token each."""
    found = [
        *re.split(r"(?<=problems\. )", MATH_SYSTEM),
        *(line for prompt in (CRITIQUE_SYSTEM, REFINE_SYSTEM) for line in re.split(r"\n|</?think>", prompt) if line),
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n",
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n",
        '{"type": "function", "function": {"name": "',
        "execute_python_code",
        *_schema_phrases(EXECUTE_PYTHON_CODE),
        "generate_response",
        *_schema_phrases(GENERATE_RESPONSE),
        "\n</tools>\n\nFor each function call, return a json object with function name and arguments within ",
        " XML tags:\n",
        '{"name": <function-name>, "arguments": <args-json-object>}',
        '{"name": "',
        '", "arguments": {"code": "',
        '", "arguments": {"result": "\\\\boxed{',
        "{'name': '",
        "', 'arguments': {'code': '",
        "<returncode>",
        "</returncode><stdout>",
        "</stdout><stderr>",
        "</stderr>",
        INVALID_CALL_OBSERVATION,
        "Traceback (most recent call last):\n",
        "The answer is \\boxed{",
        "\\boxed{",
        "<answer>",
        "</answer>",
    ]
    return list(dict.fromkeys(found))


def _without_phrases(texts: Iterable[str]) -> Iterator[str]:
    known = sorted((*CONTROL_TOKENS, *MARKUP_TOKENS, *phrases()), key=len, reverse=True)
    splitter = re.compile("|".join(map(re.escape, known)))
    for text in texts:
        yield from filter(None, splitter.split(text))


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on rendered conversations; ``vocab_size`` counts everything."""
    fixed = phrases()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PATTERN), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(CONTROL_TOKENS) - len(MARKUP_TOKENS) - len(fixed),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_without_phrases(texts), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in (*MARKUP_TOKENS, *fixed)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106 - not a password
        pad_token="<|endoftext|>",  # noqa: S106
        model_max_length=MAX_CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=_TEMPLATE.read_text(encoding="utf-8"),
    )
