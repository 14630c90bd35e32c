"""From a path in a request to a folder that is safe to evaluate, or to the reason why there is none."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from astune.errors import ModelError
from astune.files import storage_errors
from autorl_bench.submission.findings import Findings
from autorl_bench.submission.intake import Copied, take_in
from autorl_bench.submission.inventory import INDEX_FILE
from autorl_bench.submission.limits import Limits
from autorl_bench.submission.provenance import Provenance, compare
from autorl_bench.submission.reasons import Invalid, SubmissionRefused
from autorl_bench.submission.replaced import finding as replaced_finding
from autorl_bench.submission.safety import check_folder
from autorl_bench.submission.tensors import Tensors, read_tensors
from autorl_bench.submission.vault import publish, scratch_folder
from autorl_bench.types import Reason

_MODELS = "models"
# What a model needs beside its weights; always the base's.
_BASE_FILES = (
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A submission that can be evaluated.

    Attributes:
        folder: the submitted weights with the base model's configuration, tokenizer, chat template and generation
            settings; read-only, in the vault.
        sha256: of what was submitted (names and contents of the files that were copied).
        copied: the copy itself, file by file, and what was left out.
        provenance: distances from the base and from the other registered models.
    """

    folder: Path
    sha256: str
    copied: Copied
    provenance: Provenance

    @property
    def findings(self) -> Findings:
        """What the folder alone tells."""
        replaced = replaced_finding(self.copied.replaced)
        return self.provenance.findings + Findings((replaced,) if replaced else ())


@dataclass(frozen=True, slots=True)
class Refused:
    """An invalid submission: the outcome is `invalid`, which is neither a score of 0 nor a failure of ours."""

    code: Invalid
    reason: Reason


def prepare(
    submission_path: str,
    workspace: Path,
    base: Path,
    limits: Limits,
    *,
    vault: Path,
    siblings: Mapping[str, Path] | None = None,
    admit: Callable[[str], None] = lambda digest: None,
) -> Prepared | Refused:
    """Copies a submission into the vault, checks it, measures where it comes from, and lays it out for evaluation.

    Nothing of the submission is ever run, unpickled or given to transformers; only the copy is read.

    Args:
        submission_path: as in the request: ``workspace/{run}/output/model``, relative to the workspace, or absolute.
        workspace: the run's own folder.
        base: the folder of the scenario's base model.
        limits: bounds on what is copied and read.
        vault: the grader's folder; no agent can write it.
        siblings: folders of the other registered models by name. One without safetensors is an error.
        admit: is told the digest of a folder that could be evaluated; when it raises, nothing stays in the vault.

    Raises:
        AstuneError: a failure of ours: the vault cannot be written, or a model of ours is damaged.
        OSError: the same, from the operating system.
    """
    base_tensors = _ours(base, limits)
    sibling_tensors = {name: _ours(folder, limits) for name, folder in (siblings or {}).items()}

    def check(copy: Path, digest: str) -> None:
        check_folder(copy, base, base_tensors, limits)
        admit(digest)

    try:
        total_bytes = limits.total_bytes or largest_submission(base_tensors, limits)
        copied = take_in(submission_path, workspace, vault, limits, total_bytes, check, base)
    except SubmissionRefused as refused:
        return Refused(refused.code, refused.reason)
    tensors = read_tensors(copied.folder, limits.header_bytes)
    folder = _assemble(copied, tensors, base, vault)
    return Prepared(folder, copied.sha256, copied, compare(tensors, base_tensors, sibling_tensors))


def largest_submission(base: Tensors, limits: Limits) -> int:
    """Bytes of the base model's tensors as float32 (8 each for other types), its embedding twice, and headers."""
    sizes = [tensor.elements * (4 if tensor.dtype in {"F32", "BF16", "F16"} else 8) for tensor in base.values()]
    return sum(sizes) + max(sizes, default=0) + limits.header_bytes + limits.json_bytes


def _ours(folder: Path, limits: Limits) -> Tensors:
    """Tensors of one of our own models: what would be a refusal there is a failure here."""
    try:
        return read_tensors(folder, limits.header_bytes)
    except SubmissionRefused as error:
        raise ModelError(f"the registered model {folder} cannot be compared with: {error.reason.message}") from error


def _assemble(copied: Copied, tensors: Tensors, base: Path, vault: Path) -> Path:
    """The folder to evaluate: the submitted weights with an index written anew, everything else from the base."""
    target = vault / _MODELS / f"{copied.sha256}-{_digest_of_base(base)}"
    if target.is_dir():
        return target
    with scratch_folder(vault) as scratch, storage_errors(target):
        for name in _BASE_FILES:
            if (base / name).is_file():
                shutil.copyfile(base / name, scratch / name)
        # Links within the vault: both names are the grader's, and large weights are not written twice.
        for file in sorted({tensor.file for tensor in tensors.values()}):
            os.link(file, scratch / file.name)
        if (copied.folder / INDEX_FILE).is_file():
            weight_map = {name: tensor.file.name for name, tensor in tensors.items()}
            (scratch / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}, indent=1))
        publish(scratch, target)
    return target


def _digest_of_base(base: Path) -> str:
    """Changes with any file that is taken from the base model."""
    digest = hashlib.sha256()
    for name in _BASE_FILES:
        if (base / name).is_file():
            digest.update(f"{name}\n".encode() + hashlib.sha256((base / name).read_bytes()).digest())
    return digest.hexdigest()[:16]
