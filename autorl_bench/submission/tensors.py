"""Safetensors files read strictly and in pieces: what each holds, and its values without loading it whole.

The format (https://huggingface.co/docs/safetensors): 8 bytes little-endian length N, N bytes of JSON header,
then the data; each tensor names its bytes as offsets into the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autorl_bench.submission.inventory import INDEX_FILE, WEIGHTS_FILE
from autorl_bench.submission.reasons import Invalid, SubmissionRefused
from autorl_bench.submission.strict_json import parse_object

#: Types in which weights may be submitted.
FLOATING = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
# All types that a base model's files may hold, buffers included.
_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2, "U8": 1, "I8": 1, "BOOL": 1}
# Bits that are all set in NaN and in the infinities, and in nothing else (IEEE 754 and bfloat16).
_EXPONENT = {"F32": 0x7F80_0000, "BF16": 0x7F80, "F16": 0x7C00}
_RAW: dict[int, np.dtype[Any]] = {4: np.dtype("<u4"), 2: np.dtype("<u2")}
_PIECE = 2**20  # elements that are in memory at a time
_MAX_DIMENSIONS = 8


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one tensor lies: its file, type, shape, and the position of its first byte in the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def raw(self, piece: int = _PIECE) -> Iterator[np.ndarray[Any, np.dtype[Any]]]:
        """The values in order, ``piece`` at a time, as unsigned integers of the type's width (floating types only)."""
        raw = _RAW[_BYTES[self.dtype]]
        with self.file.open("rb") as file:
            file.seek(self.start)
            for first in range(0, self.elements, piece):
                count = min(piece, self.elements - first)
                values = np.fromfile(file, raw, count)
                if len(values) != count:
                    raise OSError(f"{self.file} is shorter than its header says")
                yield values

    def pieces(self, piece: int = _PIECE) -> Iterator[torch.Tensor]:
        """The values in order, ``piece`` at a time, in the tensor's own floating type: shape (piece,)."""
        signed = {4: np.dtype("<i4"), 2: np.dtype("<i2")}[_BYTES[self.dtype]]
        for values in self.raw(piece):
            yield torch.from_numpy(values.view(signed)).view(FLOATING[self.dtype])

    def blocks(self, size: int = 4 * _PIECE) -> Iterator[bytes]:
        """The bytes in order, ``size`` at a time, of any type."""
        left = self.elements * _BYTES[self.dtype]
        with self.file.open("rb") as file:
            file.seek(self.start)
            while left:
                block = file.read(min(size, left))
                if not block:
                    raise OSError(f"{self.file} is shorter than its header says")
                left -= len(block)
                yield block

    def all_finite(self) -> bool:
        """Whether no value is NaN or infinite."""
        mask = _EXPONENT[self.dtype]
        return all(bool(((values & mask) != mask).all()) for values in self.raw())


Tensors = Mapping[str, Tensor]


def read_tensors(folder: Path, header_bytes: int) -> dict[str, Tensor]:
    """All tensors of a model folder, from one file or from the shards that its index names.

    Raises:
        SubmissionRefused: no weights, a damaged file, or an index that does not say exactly what is there.
    """
    files = sorted(file for file in folder.glob("*.safetensors"))
    index = folder / INDEX_FILE
    if not files:
        raise SubmissionRefused(Invalid.NO_WEIGHTS, "The folder has no safetensors file")
    by_file = {file.name: read_header(file, header_bytes) for file in files}
    if index.is_file():
        _check_index(index, by_file)
    elif list(by_file) != [WEIGHTS_FILE]:
        code = Invalid.BAD_INDEX if len(by_file) > 1 else Invalid.NO_WEIGHTS
        raise SubmissionRefused(code, f"Without an index the one weights file is {WEIGHTS_FILE}, not {list(by_file)}")
    return {name: tensor for tensors in by_file.values() for name, tensor in tensors.items()}


def _check_index(index: Path, by_file: Mapping[str, Tensors]) -> None:
    try:
        weight_map = parse_object(index.read_bytes()).get("weight_map")
    except ValueError as error:
        raise SubmissionRefused(Invalid.BAD_INDEX, f"{INDEX_FILE} cannot be read: {error}") from error
    if len(by_file) > 1 and WEIGHTS_FILE in by_file:
        # Loaders would take that file for the whole model.
        raise SubmissionRefused(Invalid.BAD_INDEX, f"There are {WEIGHTS_FILE} and {INDEX_FILE} with other shards")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise SubmissionRefused(Invalid.BAD_INDEX, f"{INDEX_FILE} has no weight_map from tensors to files")
    if missing := sorted(set(weight_map.values()) - set(by_file)):
        raise SubmissionRefused(Invalid.BAD_INDEX, f"{INDEX_FILE} names {missing[0]!r}, which is not in the folder")
    held = {(name, file) for file, tensors in by_file.items() for name in tensors}
    if held != set(weight_map.items()):
        name, file = min(held ^ set(weight_map.items()))
        raise SubmissionRefused(Invalid.BAD_INDEX, f"{INDEX_FILE} and the shards disagree about {name!r} in {file}")


def read_header(file: Path, header_bytes: int) -> dict[str, Tensor]:
    """The tensors of one file. Their bytes must fill it without overlap, gap or remainder.

    Raises:
        SubmissionRefused: the file is malformed; the reason names it.
    """
    try:
        return _read_header(file, header_bytes)
    except ValueError as error:
        raise SubmissionRefused(Invalid.BAD_SAFETENSORS, f"{file.name}: {error}") from error


def _read_header(file: Path, header_bytes: int) -> dict[str, Tensor]:
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError("the file ends before its header does")
        if length > header_bytes:
            raise ValueError(f"the header has {length} bytes, at most {header_bytes}")
        header = parse_object(opened.read(length))
    header.pop("__metadata__", None)
    spans: list[tuple[int, int, str]] = []
    tensors: dict[str, Tensor] = {}
    for name, entry in header.items():
        dtype, shape, begin, end = _entry(name, entry)
        spans.append((begin, end, name))
        tensors[name] = Tensor(file, dtype, shape, 8 + length + begin)
    _check_spans(spans, size - 8 - length)
    return tensors


def _entry(name: str, entry: object) -> tuple[str, tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of {name!r} does not have dtype, shape and data_offsets alone")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise ValueError(f"{name!r} has the unknown type {str(dtype)[:40]!r}")
    if not _naturals(shape) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"{name!r} has no proper shape")
    if not _naturals(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r} has no proper offsets")
    begin, end = offsets
    if end - begin != math.prod(shape) * _BYTES[dtype]:
        raise ValueError(f"the bytes of {name!r} do not fit its shape and type")
    return dtype, tuple(shape), begin, end


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(entry) is int and entry >= 0 for entry in value)


def _check_spans(spans: list[tuple[int, int, str]], data_bytes: int) -> None:
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            raise ValueError(f"the bytes of {name!r} overlap others or leave a gap")
        position = end
    if position != data_bytes:
        raise ValueError(f"the tensors take {position} bytes, the file has {data_bytes}")
