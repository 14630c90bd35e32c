"""Whether a copied folder is the base model with other weights, and nothing else.

What decides how a model is run (architecture, sizes, tokenizer, chat template, generation settings) is taken from
the base model always; a submitted config.json is only compared. So a key that slips through the comparison
has no effect either.

Adapters are refused, not merged: their configuration holds regular expressions, paths and options of another
library, and merging is one line for the agent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from autorl_bench.submission.inventory import CONFIG_FILE
from autorl_bench.submission.limits import Limits
from autorl_bench.submission.reasons import Invalid, SubmissionRefused
from autorl_bench.submission.strict_json import parse_object
from autorl_bench.submission.tensors import FLOATING, Tensor, Tensors, read_tensors

_HEAD = "lm_head.weight"
_EMBEDDING = "embed_tokens.weight"
# Keys that may have any value: what wrote the file, what training or generation used.
_FREE_KEYS = frozenset(
    {
        "_name_or_path",
        "transformers_version",
        "dtype",
        "torch_dtype",
        "use_cache",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "attention_dropout",
        "attn_pdrop",
        "embd_pdrop",
        "resid_pdrop",
        "hidden_dropout",
        "initializer_range",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "gradient_checkpointing",
        "_attn_implementation",
        "problem_type",
        "id2label",
        "label2id",
        "is_encoder_decoder",
        "is_decoder",
        "chunk_size_feed_forward",
    }
)
_CODE_KEYS = frozenset({"auto_map", "custom_pipelines", "trust_remote_code"})


def check_folder(folder: Path, base: Path, base_tensors: Tensors, limits: Limits) -> dict[str, Tensor]:
    """The tensors of a submission, once it is certain that they are the base model's in name, shape and finite values.

    Args:
        folder: the copy in the vault.
        base: the base model's folder.
        base_tensors: its tensors (:func:`~autorl_bench.submission.tensors.read_tensors`).
        limits: bounds on headers, and configuration keys that the scenario leaves free.

    Raises:
        SubmissionRefused: with the first reason found.
    """
    check_config(folder, base, limits.ignored_config_keys)
    tensors = read_tensors(folder, limits.header_bytes)
    _check_names(tensors, base_tensors, head_may_be_saved=_ties_head(base))
    for name, tensor in tensors.items():
        _check_tensor(name, tensor, base_tensors.get(name))
    for name, tensor in tensors.items():
        if tensor.dtype in FLOATING and not tensor.all_finite():
            raise SubmissionRefused(Invalid.NOT_FINITE, f"{name} holds values that are not finite")
    if _HEAD in tensors and _HEAD not in base_tensors:
        _check_tied(tensors)
    return tensors


def check_config(folder: Path, base: Path, free_keys: Iterable[str] = ()) -> None:
    """Compares the submitted config.json with the base's; each key must be known and have the base's value.

    Raises:
        SubmissionRefused: missing, malformed, refers to code, or differs.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise SubmissionRefused(Invalid.NO_CONFIG, "There is no config.json")
    try:
        submitted = parse_object(file.read_bytes())
    except ValueError as error:
        raise SubmissionRefused(Invalid.BAD_CONFIG, f"config.json: {error}") from error
    if keys := sorted(_CODE_KEYS & set(_all_keys(submitted))):
        raise SubmissionRefused(Invalid.CONFIG_CODE, f"config.json has the key {keys[0]}")
    written, complete = _base_config(base)
    for key in ("model_type", "architectures"):
        submitted.setdefault(key, None)
    for key, value in submitted.items():
        if key not in _FREE_KEYS.union(free_keys):
            _check_value(key, value, written, complete)


def _check_value(key: str, value: Any, written: Mapping[str, Any], complete: Mapping[str, Any]) -> None:
    """Accepts the value as the base's file has it, or as the architecture's default fills it in."""
    allowed = [known[key] for known in (written, complete) if key in known]
    if not allowed:
        raise SubmissionRefused(Invalid.CONFIG_DIFFERS, f"config.json has the key {key[:80]!r}, which the base lacks")
    if not any(_same(value, expected) for expected in allowed):
        shown = json.dumps(value)[:80]
        raise SubmissionRefused(
            Invalid.CONFIG_DIFFERS, f"config.json has {key} = {shown}, the base {json.dumps(allowed[0])[:80]}"
        )


def _same(left: Any, right: Any) -> bool:
    """Equality of JSON values; True and 1 differ, 1 and 1.0 do not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


def _base_config(base: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The base's configuration as its file has it, and with the defaults of its architecture."""
    written = json.loads((base / CONFIG_FILE).read_text(encoding="utf-8"))
    loaded = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    return written, json.loads(loaded.to_json_string(use_diff=False))


def _all_keys(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _all_keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _all_keys(inner)


def _ties_head(base: Path) -> bool:
    return bool(_base_config(base)[1].get("tie_word_embeddings"))


def _check_names(tensors: Tensors, base: Tensors, head_may_be_saved: bool) -> None:
    extra = set(tensors) - set(base) - ({_HEAD} if head_may_be_saved else set())
    if missing := sorted(set(base) - set(tensors)):
        raise SubmissionRefused(Invalid.TENSOR_NAMES, f"{len(missing)} tensors are missing, the first is {missing[0]}")
    if extra:
        first = min(extra)[:120]
        raise SubmissionRefused(Invalid.TENSOR_NAMES, f"{len(extra)} tensors are not the base's, such as {first!r}")


def _check_tensor(name: str, tensor: Tensor, base: Tensor | None) -> None:
    if base is not None and tensor.shape != base.shape:
        raise SubmissionRefused(Invalid.TENSOR_SHAPE, f"{name} is {list(tensor.shape)}, the base's {list(base.shape)}")
    allowed = [base.dtype] if base is not None and base.dtype not in FLOATING else sorted(FLOATING)
    if tensor.dtype not in allowed:
        raise SubmissionRefused(Invalid.TENSOR_DTYPE, f"{name} is {tensor.dtype}, allowed: {', '.join(allowed)}")


def _check_tied(tensors: Tensors) -> None:
    """A head that was saved although it is tied must be the embedding: transformers would untie the two otherwise."""
    head = tensors[_HEAD]
    embeddings = [tensor for name, tensor in tensors.items() if name.endswith(_EMBEDDING)]
    for embedding in embeddings:
        if (head.shape, head.dtype) == (embedding.shape, embedding.dtype) and all(
            map(torch.equal, head.pieces(), embedding.pieces())
        ):
            return
    raise SubmissionRefused(Invalid.UNTIED_HEAD, f"{_HEAD} is not the embedding")
