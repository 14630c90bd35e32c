"""From submitted weights to a model that the grader runs: the base model's own in everything but its weights."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from astune.errors import AstuneError, ModelError, UserError
from astune.models.load import load_policy
from autorl_bench.types import Reason

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")


class InvalidModel(UserError):
    """A submitted model that cannot be evaluated, for a fault of its own. ``reason`` is what the agent is told."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.reason = Reason(code, message)


class EvaluationFailure(AstuneError):
    """An evaluation that failed for a fault of ours (engine, sandbox, checker, disk): there is no score."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.reason = Reason(code, message)


def not_finite(error: Exception) -> InvalidModel | None:
    """The model's fault, where an error goes back to logits that are not finite."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, FloatingPointError):
        cause = cause.__cause__
    if cause is None:
        return None
    return InvalidModel("not_finite", f"the model cannot be sampled from: {error}")


class FirstError:
    """The first error of an evaluation, kept as it is: Inspect keeps its text alone, and is slow at that.

    Whoever notes an error ends its sample in the ordinary way, without a result; samples that come later do nothing.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Ends the block at an error, and remembers it if it is the first."""
        try:
            yield
        except Exception as error:  # not swallowed: the evaluation ends with it, and tells its kinds apart
            self.error = self.error or error


def load_submitted(model_folder: Path, base_folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads the weights of one folder into the architecture of another, and that one's tokenizer.

    Of ``model_folder`` only safetensors are read. Its config.json, tokenizer, chat template and generation settings
    are not: a chat template can be an answer table, and generation settings change decoding.

    Raises:
        InvalidModel: there are no such weights, or they do not fit the base model.
        EvaluationFailure: the base model itself cannot be loaded.
    """
    transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="autorl_bench_") as scratch:
        staged = Path(scratch)
        _link_base(base_folder, staged)
        _link_weights(model_folder, staged)
        try:
            return load_policy(staged)
        except ModelError as error:
            _require_base(base_folder)
            message = str(error).replace(str(staged), str(model_folder))
            raise InvalidModel("cannot_be_loaded", message) from error


def _link_base(base: Path, staged: Path) -> None:
    """Links what describes the model: everything at the folder's top that holds no weights."""
    if not base.is_dir():
        raise EvaluationFailure("base_model", f"the base model's folder {base} does not exist")
    for file in base.iterdir():
        if file.is_file() and not file.name.endswith((*_WEIGHT_SUFFIXES, ".index.json", ".py")):
            (staged / file.name).symlink_to(file.resolve())


def _link_weights(model: Path, staged: Path) -> None:
    if (model / _WEIGHTS).is_file():
        names = [_WEIGHTS]
    elif (model / _INDEX).is_file():
        names = _shards(model / _INDEX)
        shutil.copyfile(model / _INDEX, staged / _INDEX)
    else:
        raise InvalidModel("no_weights", f"{model} holds no {_WEIGHTS} and no {_INDEX}: save the model as safetensors")
    for name in names:
        if not (model / name).is_file():
            raise InvalidModel("no_weights", f"{model / _INDEX} names {name}, which is not there")
        (staged / name).symlink_to((model / name).resolve())


def _shards(index: Path) -> list[str]:
    """The files that an index names: plain names of safetensors files, and nothing that leads out of the folder."""
    try:
        names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidModel("cannot_be_loaded", f"{index} cannot be read: {error}") from error
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InvalidModel("cannot_be_loaded", f"{index} names {name!r}: name safetensors files beside it")
    return names


def _require_base(base: Path) -> None:
    """Weights can't be blamed where the base model does not load with its own."""
    try:
        load_policy(base)
    except ModelError as error:
        raise EvaluationFailure("base_model", str(error)) from error
