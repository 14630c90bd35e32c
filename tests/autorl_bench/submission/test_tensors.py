"""Safetensors headers and indexes read strictly, values read in pieces."""

import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from astune.models.nano import NANO_PATH
from autorl_bench.submission.reasons import SubmissionRefused
from autorl_bench.submission.tensors import read_header, read_tensors

LIMIT = 10_000


def _write(file, header, data=b"\0" * 16):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(raw)) + raw + data)


def _entry(begin=0, end=16, shape=(4,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def _code(call, *arguments):
    with pytest.raises(SubmissionRefused) as refused:
        call(*arguments)
    return refused.value.code


def test_the_bundled_model_reads_as_the_library_reads_it():
    tensors = read_tensors(NANO_PATH, 2**20)
    with safe_open(NANO_PATH / "model.safetensors", "pt") as expected:
        assert set(tensors) == set(expected.keys())
        for name, tensor in tensors.items():
            assert torch.equal(torch.cat(list(tensor.pieces(1000))), expected.get_tensor(name).flatten())


MALFORMED = {
    "overlapping offsets": {"a": _entry(0, 16), "b": _entry(0, 16)},
    "a gap": {"a": _entry(0, 4, (1,)), "b": _entry(8, 16, (2,))},
    "trailing bytes": {"a": _entry(0, 8, (2,))},
    "beyond the end": {"a": _entry(0, 32, (8,))},
    "end before begin": {"a": _entry(16, 0)},
    "negative offset": {"a": _entry(-16, 0)},
    "shape that does not fit": {"a": _entry(shape=(5,))},
    "negative dimensions that multiply to the size": {"a": _entry(shape=(-2, -2))},
    "boolean dimension": {"a": _entry(shape=(True, 4))},
    "float dimension": {"a": _entry(shape=(4.0,))},
    "nine dimensions": {"a": _entry(shape=(1,) * 8 + (4,))},
    "unknown type": {"a": _entry(dtype="PICKLE")},
    "type that is no text": {"a": {**_entry(), "dtype": ["F32"]}},
    "more keys": {"a": {**_entry(), "code": "x"}},
    "no keys": {"a": {}},
    "not an entry": {"a": 3},
    "key twice": b'{"a": %b, "a": %b}' % ((json.dumps(_entry()).encode(),) * 2),
    "not an object": b"[]",
    "not JSON": b"\x80\x04pickle",
    "NaN": b'{"a": NaN}',
    "deep": b'{"a":' + b"[" * 4000 + b"]" * 4000 + b"}",
    "huge number": b'{"a": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_header_is_refused(tmp_path, case):
    _write(tmp_path / "m.safetensors", MALFORMED[case])
    assert _code(read_header, tmp_path / "m.safetensors", LIMIT) == "bad_safetensors"


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**63, 2**64 - 1])
def test_a_header_length_that_lies_is_refused(tmp_path, length):
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", length) + b"x" * 100)
    assert _code(read_header, tmp_path / "m.safetensors", LIMIT) == "bad_safetensors"


def test_a_giant_header_is_refused_before_it_is_read(tmp_path):
    _write(tmp_path / "m.safetensors", b"{" + b" " * 20_000 + b"}", b"")
    assert _code(read_header, tmp_path / "m.safetensors", LIMIT) == "bad_safetensors"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("any") / "m.safetensors"
    file.write_bytes(content)
    try:
        read_header(file, LIMIT)
    except SubmissionRefused as refused:
        assert refused.code == "bad_safetensors"


@settings(deadline=None)
@given(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]), st.integers(0, 50), st.sampled_from("nip "))
def test_a_value_that_is_not_finite_is_found_wherever_it_is(tmp_path_factory, dtype, position, kind):
    values = torch.randn(51, generator=torch.Generator().manual_seed(0)).to(dtype)
    values[50] = torch.finfo(dtype).max
    if kind != " ":
        values[position] = {"n": float("nan"), "i": float("inf"), "p": -float("inf")}[kind]
    file = tmp_path_factory.mktemp("finite") / "m.safetensors"
    save_file({"a": values}, file)
    assert read_header(file, LIMIT)["a"].all_finite() == (kind == " ")


@pytest.fixture
def shards(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "model-1.safetensors")
    save_file({"b": torch.ones(3)}, tmp_path / "model-2.safetensors")

    def index(weight_map):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        return tmp_path

    return index


GOOD = {"a": "model-1.safetensors", "b": "model-2.safetensors"}


def test_shards_are_read_as_one_model(shards):
    assert {name: tensor.shape for name, tensor in read_tensors(shards(GOOD), LIMIT).items()} == {"a": (2,), "b": (3,)}


@pytest.mark.parametrize(
    "weight_map",
    [
        {"a": "model-1.safetensors"},
        {**GOOD, "c": "model-1.safetensors"},
        {**GOOD, "c": "model-3.safetensors"},
        {"a": "model-2.safetensors", "b": "model-1.safetensors"},
        {**GOOD, "b": "../../base/model.safetensors"},
        {**GOOD, "b": 3},
        [],
        None,
    ],
)
def test_an_index_that_does_not_say_what_is_there_is_refused(shards, weight_map):
    assert _code(read_tensors, shards(weight_map), LIMIT) == "bad_index"


def test_the_same_tensor_in_two_shards_is_refused(shards, tmp_path):
    save_file({"b": torch.ones(3), "a": torch.zeros(2)}, tmp_path / "model-2.safetensors")
    assert _code(read_tensors, shards(GOOD), LIMIT) == "bad_index"


def test_one_file_beside_an_index_of_others_is_refused(shards, tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    assert _code(read_tensors, shards(GOOD), LIMIT) == "bad_index"


def test_shards_without_an_index_are_refused(shards, tmp_path):
    assert _code(read_tensors, tmp_path, LIMIT) == "bad_index"
