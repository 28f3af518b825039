"""Arrays of a GGUF file's metadata are read fast, with the same result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from lift_eval.models.gguf_reader import FastReader, fast_arrays
from tests.tiny_models import write_gguf


def arrays(path: Path) -> Path:
    """A file with arrays of each form."""
    writer = GGUFWriter(path, "llama")
    for name, values in {
        "strings": ["", "one", "Ä ☃"],
        "integers": [1, -2, 3],
        "numbers": [0.5, -1.0],
        "flags": [True, False],
        "nested": [["a", "b"], ["c"]],
    }.items():
        writer.add_array(f"test.{name}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("make", [arrays, write_gguf])
def test_a_file_is_read_as_by_gguf_itself(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path / "tiny.gguf")
    ours, theirs = FastReader(path), GGUFReader(path)
    assert list(ours.fields) == list(theirs.fields)
    for name, field in theirs.fields.items():
        read = ours.fields[name]
        assert (read.offset, read.data, read.types) == (field.offset, field.data, field.types)
        for one, other in zip(read.parts, field.parts, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    assert [tensor.name for tensor in ours.tensors] == [tensor.name for tensor in theirs.tensors]


def test_a_file_that_ends_within_an_array_is_an_error(tmp_path: Path) -> None:
    whole = arrays(tmp_path / "whole.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: whole.index(b"one")])
    with pytest.raises((IndexError, ValueError)):
        FastReader(cut)


def test_gguf_has_its_own_reader_again_afterwards() -> None:
    with fast_arrays():
        assert gguf.GGUFReader is FastReader
    assert gguf.GGUFReader is GGUFReader
