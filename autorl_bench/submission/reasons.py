"""Why a submission is invalid: a closed list of codes, each with a sentence that an agent can act on."""

from __future__ import annotations

from enum import StrEnum

from astune.errors import AstuneError
from autorl_bench.types import Reason


class Invalid(StrEnum):
    """What can be wrong with a submitted folder. The value is the stable code of the API (422) and of the store."""

    BAD_PATH = "bad_path"
    OUTSIDE_WORKSPACE = "outside_workspace"
    NOT_FOUND = "not_found"
    NOT_A_FOLDER = "not_a_folder"
    UNREADABLE = "unreadable"
    LINK = "link"
    SPECIAL_FILE = "special_file"
    TOO_MANY_FILES = "too_many_files"
    TOO_LARGE = "too_large"
    CHANGED_WHILE_COPIED = "changed_while_copied"
    PICKLE = "pickle"
    CODE = "code"
    ADAPTER = "adapter"
    NO_CONFIG = "no_config"
    BAD_CONFIG = "bad_config"
    CONFIG_CODE = "config_code"
    CONFIG_DIFFERS = "config_differs"
    NO_WEIGHTS = "no_weights"
    BAD_INDEX = "bad_index"
    BAD_SAFETENSORS = "bad_safetensors"
    TENSOR_NAMES = "tensor_names"
    TENSOR_SHAPE = "tensor_shape"
    TENSOR_DTYPE = "tensor_dtype"
    NOT_FINITE = "not_finite"
    UNTIED_HEAD = "untied_head"

    @property
    def sentence(self) -> str:
        """The rule that was broken, and what to submit instead."""
        return _SENTENCES[self]


_SENTENCES = {
    Invalid.BAD_PATH: "The model path must be a plain path: give the folder as it is called in the workspace.",
    Invalid.OUTSIDE_WORKSPACE: "The model must lie inside the run's own workspace: save it to output/model there.",
    Invalid.NOT_FOUND: "There is nothing at the model path: save the model before it is submitted.",
    Invalid.NOT_A_FOLDER: "The model path must name a folder that holds config.json and safetensors files.",
    Invalid.UNREADABLE: "The grader may not read the submission: give the files and folders ordinary permissions.",
    Invalid.LINK: "Links are not followed, neither symbolic nor hard ones: put copies of the files into the folder.",
    Invalid.SPECIAL_FILE: "Pipes, sockets and devices are not read: a model folder holds regular files.",
    Invalid.TOO_MANY_FILES: "The folder has too many entries: leave only the model in it.",
    Invalid.TOO_LARGE: "The files are larger than any model of this architecture: save the weights alone.",
    Invalid.CHANGED_WHILE_COPIED: "The folder changed while it was being copied: stop whatever writes to it first.",
    Invalid.PICKLE: "Pickled files can run code and are refused: save with safetensors and delete them.",
    Invalid.CODE: "A model folder may not hold code: delete it; the base model's own code is used.",
    Invalid.ADAPTER: "Adapters are not evaluated: merge it (peft's merge_and_unload) and save the whole model.",
    Invalid.NO_CONFIG: "config.json is missing: save the model with save_pretrained.",
    Invalid.BAD_CONFIG: "config.json cannot be read as one plain JSON object: save the model with save_pretrained.",
    Invalid.CONFIG_CODE: "config.json refers to code: remove that key; code that comes with a model is never run.",
    Invalid.CONFIG_DIFFERS: "config.json differs from the base model's: only the weights may be changed.",
    Invalid.NO_WEIGHTS: "There are no weights: save model.safetensors, or shards with model.safetensors.index.json.",
    Invalid.BAD_INDEX: "The index and the shards do not agree: save the model anew with save_pretrained.",
    Invalid.BAD_SAFETENSORS: "A safetensors file is damaged or malformed: save the model anew with save_pretrained.",
    Invalid.TENSOR_NAMES: "The tensors are not those of the base model: train that model, with all of its tensors.",
    Invalid.TENSOR_SHAPE: "A tensor's shape is not the base model's: do not resize, prune or extend the model.",
    Invalid.TENSOR_DTYPE: "A tensor's type is not allowed: save the weights as float32, bfloat16 or float16.",
    Invalid.NOT_FINITE: "A tensor holds NaN or infinite values: training diverged, submit an earlier state.",
    Invalid.UNTIED_HEAD: "The output head differs from the embedding that the base model ties it to: keep them tied.",
}


class SubmissionRefused(AstuneError):
    """Raised inside this package at the first thing that makes a submission invalid; ``prepare`` turns it into data.

    Args:
        code: which rule was broken.
        found: what was found where, a sentence without its full stop.
    """

    def __init__(self, code: Invalid, found: str):
        self.code, self.found = code, found
        self.reason = Reason(code.value, f"{found}. {code.sentence}")
        super().__init__(self.reason.message)
