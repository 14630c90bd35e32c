"""From a name or folder to a model and its tokenizer, or to one sentence that says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from astune.errors import ModelError
from astune.models.adapter import ADAPTER_FILE, base_of_adapter, merge_adapter
from astune.models.bundled import BUNDLED

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# What transformers raises for files that are damaged, contradict each other or need code of their own.
_LOAD_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError, SafetensorError)


def resolve_model_path(path: str | Path) -> Path:
    """The folder of a model: a bundled policy by name, a folder, or the name of a repository on the hub.

    A repository is taken from the local cache; if it is not there it is downloaded, unless
    ``HF_HUB_OFFLINE`` is set.

    Raises:
        ModelError: there is no such folder, and no such repository can be had.
    """
    if str(path) in BUNDLED:
        return BUNDLED[str(path)]
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise ModelError(f"model path {path} is a file: give the folder that holds config.json and the weights")
    if isinstance(path, Path) or path.startswith((".", "~", "/")) or path.count("/") != 1 or "\\" in path:
        raise ModelError(f"model folder {path} does not exist (bundled are: {', '.join(BUNDLED)})")
    return _from_hub(path)


def _from_hub(name: str) -> Path:
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        pass  # not in the cache: ask the hub
    try:
        return Path(snapshot_download(name, ignore_patterns=["*.pth", "*.gguf", "*.onnx", "original/*"]))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise ModelError(
            f"model {name} is neither a folder here nor in the local cache, and the hub cannot be reached or does not "
            f"have it. Where there is a network, run: hf download {name}; then copy the cache here, or give the path "
            "of the downloaded folder"
        ) from error


def load_policy(
    path: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a causal language model and its tokenizer; code that comes with a model is never run.

    A folder that holds a LoRA adapter (peft's ``adapter_config.json``) gives its base model with the adapter merged in.

    Args:
        path: see :func:`resolve_model_path`.
        dtype: of the weights.
        device: where they go.

    Returns:
        The model in eval mode, and the tokenizer.

    Raises:
        ModelError: the folder or its contents cannot be used; the message names the file and the remedy.
    """
    folder = resolve_model_path(path)
    has_weights = any((folder / name).is_file() for name in WEIGHT_FILES)
    if not has_weights and (folder / ADAPTER_FILE).is_file():
        base, base_tokenizer = load_policy(base_of_adapter(folder), dtype=dtype)
        model = merge_adapter(base, folder)
        tokenizer = _load_tokenizer(folder) if _has_tokenizer(folder) else base_tokenizer
    else:
        config = _load_config(folder)
        if not has_weights:
            raise ModelError(f"model folder {folder} has no weights; expected one of: {', '.join(WEIGHT_FILES)}")
        tokenizer = _load_tokenizer(folder)
        model = _load_model(folder, config, dtype)
    check_vocabulary(model, tokenizer, folder)
    _take_from_file(model)
    model.to(device)  # type: ignore[arg-type]  # transformers' stub wants a method's own type
    return model.eval(), tokenizer


def _take_from_file(model: PreTrainedModel) -> None:
    """Copies the weights into memory of their own.

    As loaded, they are views of the file: whoever writes it anew (a download, a rebuild) would crash the process or
    change its weights, and where a tensor lies in the file would decide its alignment.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Refuses a tokenizer with ids that the model has no embedding for, or with not half as many ids as those.

    A few ids less are normal: embeddings are often padded to a round size.
    """
    ids: dict[str, int] = tokenizer.get_vocab()
    embedding: Any = model.get_input_embeddings()
    rows = int(embedding.num_embeddings)
    if not ids:
        raise ModelError(f"the tokenizer in {folder} has an empty vocabulary: its files are missing or damaged")
    largest = max(ids.values())
    if largest >= rows or 2 * (largest + 1) < rows:
        raise ModelError(
            f"the tokenizer in {folder} has token ids up to {largest}, but the model has embeddings for "
            f"{rows} tokens: they belong to different models. Copy the model's own tokenizer files into the folder, "
            "or resize the model's embeddings"
        )


def _load_config(folder: Path) -> PretrainedConfig:
    if not (folder / "config.json").is_file():
        raise ModelError(f"model folder {folder} has no config.json: it is not a transformers model")
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except _LOAD_ERRORS as error:
        raise ModelError(
            f"{folder / 'config.json'} cannot be used: {_first_line(error)}. (Models that need code of their own are "
            "not supported)"
        ) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(
            f"{folder / 'config.json'} describes a {config.model_type} model, which is not a causal language model: "
            "Astune trains models that AutoModelForCausalLM can load"
        )
    return config


def _has_tokenizer(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in ("token*", "vocab*", "*.model"))


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    if not _has_tokenizer(folder):
        raise ModelError(
            f"model folder {folder} has no tokenizer; expected tokenizer.json and tokenizer_config.json: copy "
            "them from the model that the weights come from"
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except _LOAD_ERRORS as error:
        raise ModelError(f"the tokenizer in {folder} cannot be loaded: {_first_line(error)}") from error
    return tokenizer


def _load_model(folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    auto: Any = AutoModelForCausalLM  # its annotations do not know output_loading_info
    model: PreTrainedModel
    try:
        model, info = auto.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except _LOAD_ERRORS as error:
        raise ModelError(f"the weights in {folder} cannot be loaded: {_first_line(error)}") from error
    if missing := sorted(info["missing_keys"]):
        # transformers would go on with random numbers in their place.
        named = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ModelError(f"the weights in {folder} lack {len(missing)} tensors that its config.json asks for: {named}")
    return model


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
