"""gguf's reader, with the arrays of a file's metadata read several times as fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gguf
import numpy as np
from gguf import GGUFReader, GGUFValueType


@contextmanager
def fast_arrays() -> Iterator[None]:
    """Let transformers read GGUF files by `FastReader` inside; the result is the same."""
    gguf.GGUFReader = FastReader  # type: ignore[misc]
    try:
        yield
    finally:
        gguf.GGUFReader = GGUFReader  # type: ignore[misc]


class FastReader(GGUFReader):
    """A reader that cuts an array into its elements without four views of a memory map for each.

    A tokenizer is two arrays of fifty thousand strings or more, and a configuration is read behind them.
    """

    def _get_field_parts(
        self, orig_offs: int, raw_type: int
    ) -> tuple[int, list[Any], list[int], list[GGUFValueType]]:
        kind = int(self._get(orig_offs, np.uint32)[0]) if raw_type == GGUFValueType.ARRAY else None
        if kind is None or kind == GGUFValueType.ARRAY or self.byte_order != "I":
            return super()._get_field_parts(orig_offs, raw_type)
        data = self.data.view(np.ndarray)
        place = orig_offs + 12
        count = int(self._get(orig_offs + 4, np.uint64)[0])
        parts = [data[orig_offs : orig_offs + 4].view(np.uint32), data[orig_offs + 4 : place].view(np.uint64)]
        types = [GGUFValueType.ARRAY, *[GGUFValueType(kind)] * bool(count)]
        if kind == GGUFValueType.STRING:
            for _ in range(count):
                length = data[place : place + 8].view(np.uint64)
                end = place + 8 + int(length[0])
                parts += [length, data[place + 8 : end]]
                place = end
            return place - orig_offs, parts, list(range(3, len(parts), 2)), types
        scalar = np.dtype(self.gguf_scalar_to_np[GGUFValueType(kind)])
        end = place + count * scalar.itemsize
        parts += list(data[place:end].view(scalar).reshape(-1, 1))
        return end - orig_offs, parts, list(range(2, len(parts))), types
