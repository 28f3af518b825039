"""Memory for the keys and values of rows side by side, with room for more columns than there are.

The cache of transformers that grows copies everything with each new token. Here a new token is written in its place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

SPARE = 256
"""Columns that the memory grows by."""

MOST_OF_MEMORY = 0.5
"""Share of a GPU's free memory that keys and values may fill."""


class KeyValues(Cache):  # type: ignore[misc]
    """Keys and values of several rows that begin with the same tokens.

    A forward pass reads and writes the rows in ``rows``, from column ``column`` on, and moves neither.

    Args:
        beginning: Keys and values of what all rows begin with, as one row.
        rows: How many rows to make.
        width: How many columns to make room for; more are made when they are needed.

    Attributes:
        rows: The rows of the next forward pass.
        column: Its first column.
    """

    def __init__(self, beginning: DynamicCache, rows: int, width: int) -> None:
        self.rows = slice(0, rows)
        self.column: int = beginning.get_seq_length()
        super().__init__(layers=[_PreallocatedLayer(self, layer, rows, width) for layer in beginning.layers])

    def move(self, source: int, target: int) -> None:
        """Overwrite a row with another one."""
        for layer in self.layers:
            for tensor in (layer.keys, layer.values):
                tensor[target, :, : self.column] = tensor[source, :, : self.column]


class _PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    def __init__(self, owner: KeyValues, beginning: DynamicLayer, rows: int, width: int) -> None:
        super().__init__()
        self.owner = owner
        self.keys = _widened(beginning.keys, rows, width)
        self.values = _widened(beginning.values, rows, width)
        self.dtype, self.device, self.is_initialized = self.keys.dtype, self.keys.device, True

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *_: Any,  # noqa: ANN401
        **__: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor]:
        rows, start = self.owner.rows, self.owner.column
        stop = start + key_states.shape[-2]
        if stop > self.keys.shape[-2]:
            self.keys = _widened(self.keys, len(self.keys), stop + SPARE)
            self.values = _widened(self.values, len(self.values), stop + SPARE)
        self.keys[rows, :, start:stop] = key_states
        self.values[rows, :, start:stop] = value_states
        return self.keys[rows, :, :stop], self.values[rows, :, :stop]

    def get_seq_length(self) -> int:
        return int(self.owner.column)


def _widened(tensor: Tensor, rows: int, width: int) -> Tensor:
    """A copy with room; zeros, since even what nobody may see must be finite."""
    wide = tensor.new_zeros(rows, tensor.shape[1], width, tensor.shape[3])
    wide[:, :, : tensor.shape[2]] = tensor
    return wide


def rows_that_fit(beginning: DynamicCache, width: int) -> int | None:
    """How many rows of a width fit in the free memory of a GPU: at least one. None means that there is no GPU.

    Args:
        beginning: Keys and values of a row's beginning.
        width: Columns of a whole row.
    """
    tensors = [tensor for layer in beginning.layers for tensor in (layer.keys, layer.values)]
    if tensors[0].device.type != "cuda":
        return None
    free = 0
    for device in {tensor.device for tensor in tensors}:
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free += torch.cuda.mem_get_info(device)[0] + unused
    row = sum(tensor.nbytes for tensor in tensors) * width / beginning.get_seq_length()
    return max(int(MOST_OF_MEMORY * free / row), 1)
