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

    Args:
        beginning: Keys and values of what all rows begin with, as one row; may be empty.
        rows: How many rows to make.
        width: How many columns to make room for; more are made when they are needed.

    Attributes:
        rows: The rows of the next forward pass.
        columns: Where it writes, shape (rows, new tokens).
        stop: How many columns it reads, those that it writes included.
    """

    def __init__(self, beginning: DynamicCache, rows: int, width: int) -> None:
        self.rows, self.stop = slice(0, rows), beginning.get_seq_length()
        self.columns = torch.zeros(rows, 0, dtype=torch.int64)
        super().__init__(layers=[_PreallocatedLayer(self, layer, rows, width) for layer in beginning.layers])

    def aim(self, rows: slice, columns: Tensor, stop: int) -> None:
        """Say where the next forward pass reads and writes; see the attributes."""
        self.rows, self.columns, self.stop = rows, columns, stop

    def move(self, source: int, target: int, columns: int) -> None:
        """Overwrite so many columns of a row with those of another one."""
        for layer in self.layers:
            for tensor in (layer.keys, layer.values):
                tensor[target, :, :columns] = tensor[source, :, :columns]

    def spread(self, rows: Tensor, columns: Tensor, start: int) -> None:
        """Overwrite the columns of the first rows from one on.

        Args:
            rows: Where each comes from, shape (rows, columns).
            columns: The same of columns.
            start: The first that is overwritten.
        """
        for layer in self.layers:
            for tensor in (layer.keys, layer.values):
                taken = tensor[rows, :, columns].transpose(1, 2)
                tensor[: len(rows), :, start : start + columns.shape[1]] = taken


class _PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    def __init__(self, owner: KeyValues, beginning: DynamicLayer, rows: int, width: int) -> None:
        super().__init__()
        self.owner, self.shape = owner, (rows, width)
        if beginning.is_initialized:
            self.lazy_initialization(beginning.keys, beginning.values)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = (_widened(states, *self.shape) for states in (key_states, value_states))
        self.dtype, self.device, self.is_initialized = self.keys.dtype, self.keys.device, True

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *_: Any,  # noqa: ANN401
        **__: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor]:
        rows, columns, stop = self.owner.rows, self.owner.columns, self.owner.stop
        if not self.is_initialized:
            self.lazy_initialization(key_states[:1, :, :0], value_states[:1, :, :0])
        if stop > self.keys.shape[-2]:
            self.keys = _widened(self.keys, len(self.keys), stop + SPARE)
            self.values = _widened(self.values, len(self.values), stop + SPARE)
        keys, values = self.keys[rows], self.values[rows]
        places = torch.arange(len(columns), device=columns.device)[:, None]
        keys[places, :, columns] = key_states.transpose(1, 2)
        values[places, :, columns] = value_states.transpose(1, 2)
        return keys[:, :, :stop], values[:, :, :stop]

    def get_seq_length(self) -> int:
        return int(self.owner.stop - self.owner.columns.shape[1])


def _widened(tensor: Tensor, rows: int, width: int) -> Tensor:
    """A copy with room; zeros, since even what nobody may see must be finite."""
    wide = tensor.new_zeros(rows, tensor.shape[1], width, tensor.shape[3])
    wide[:, :, : tensor.shape[2]] = tensor
    return wide


def rows_that_fit(beginning: DynamicCache, width: int) -> int | None:
    """How many rows of a width fit in the free memory of a GPU: at least one. None means that it is not known.

    Args:
        beginning: Keys and values of a row's beginning; nothing is known from an empty one, or without a GPU.
        width: Columns of a whole row.
    """
    layers = [layer for layer in beginning.layers if layer.is_initialized]
    tensors = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
    if not tensors or tensors[0].device.type != "cuda":
        return None
    free = 0
    for device in {tensor.device for tensor in tensors}:
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free += torch.cuda.mem_get_info(device)[0] + unused
    row = sum(tensor.nbytes for tensor in tensors) * width / beginning.get_seq_length()
    return max(int(MOST_OF_MEMORY * free / row), 1)
