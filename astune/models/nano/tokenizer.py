"""The policy's tokenizer: a ``Qwen2Tokenizer`` with a small vocabulary, trained on the recipe's own text.

Digits are tokens of their own, as in Qwen. Added tokens keep episodes short: operators with their two
spaces, ``\\n`` inside a JSON string, and the fixed wording of prompts and calls (tool schemas, system
prompts, call scaffolds), a list of phrases of one token each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

from astune.models.nano.prompts import GENERATE_RESPONSE, INVALID_CALL_OBSERVATION, MATH_SYSTEM
from astune.refine.prompts import bundled_prompts
from astune.tools.python_tool import TOOL_SCHEMA

MAX_CONTEXT = 2048

#: Hidden from decoded text with ``skip_special_tokens``; the others below are not, as in Qwen's tokenizers.
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>")
MARKUP_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")

#: Words of the policy's code that are one token each; the pre-tokenizer of Qwen would split them.
CODE_TOKENS = (" = ", " + ", " - ", " * ", " // ", "\\n", "print(")

_TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def _after_name(tool: dict[str, Any]) -> str:
    """Everything in a tool's JSON after its name."""
    text = json.dumps(tool, ensure_ascii=False)
    return text[text.index('", "parameters"') :]


def _lines(prompt: str) -> list[str]:
    return [line for line in re.split(r"\n|</?think>", prompt) if line]


def phrases(of_refinement: Sequence[str] | None = None) -> list[str]:
    """The fixed wordings that are one token each; ``of_refinement``: those of the critique and refine prompts."""
    prompts = bundled_prompts()
    if of_refinement is None:
        of_refinement = [*_lines(prompts.critique_system), *_lines(prompts.refine_system)]
    found = [
        *re.split(r"(?<=problems\. )", MATH_SYSTEM),
        *of_refinement,
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n",
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n",
        '{"type": "function", "function": {"name": "',
        "execute_python_code",
        _after_name(TOOL_SCHEMA),
        "generate_response",
        _after_name(GENERATE_RESPONSE),
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


def _without_phrases(texts: Iterable[str], wordings: Sequence[str]) -> Iterator[str]:
    known = sorted((*CONTROL_TOKENS, *MARKUP_TOKENS, *CODE_TOKENS, *wordings), key=len, reverse=True)
    splitter = re.compile("|".join(map(re.escape, known)))
    for text in texts:
        yield from filter(None, splitter.split(text))


def train_tokenizer(texts: Iterable[str], vocab_size: int, wordings: Sequence[str] | None = None) -> Qwen2Tokenizer:
    """Trains the tokenizer on rendered conversations; ``vocab_size`` counts everything.

    ``wordings`` are one token each; by default the phrases of this policy.
    """
    wordings = phrases() if wordings is None else wordings
    added = (*MARKUP_TOKENS, *CODE_TOKENS, *wordings)
    blank = Qwen2Tokenizer().backend_tokenizer
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = blank.normalizer
    # No token holds a newline beside anything else: a turn reads the same wherever it is cut.
    newline = pre_tokenizers.Split("\n", "isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence([newline, blank.pre_tokenizer])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(CONTROL_TOKENS) - len(added),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    bpe.train_from_iterator(_without_phrases(texts, wordings), trainer)
    model = json.loads(bpe.to_str())["model"]
    arguments: dict[str, Any] = {
        "vocab": model["vocab"],
        "merges": [tuple(pair) for pair in model["merges"]],
        "unk_token": None,  # the default, <|endoftext|>, would make that token look unknown to renderers
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": MAX_CONTEXT,
        "chat_template": _TEMPLATE.read_text(encoding="utf-8"),
    }
    tokenizer = Qwen2Tokenizer(**arguments)
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS], True)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added])
    return tokenizer
