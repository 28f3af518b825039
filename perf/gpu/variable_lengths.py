"""Samples one after the other in a row, without padding and without a mask: attention knows where each begins.

On a GPU that is torch's own flash attention, elsewhere attention of each sample by itself.
"""

# ruff: noqa: ANN401 - models of transformers have no types

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface

from lift_eval.training.batching import MicroBatch
from lift_eval.training.loss import accumulate_gradient
from lift_eval.training.samples import Sample

NAME = "variable_lengths"


class VariableLengths:
    """An attention of transformers for rows that hold several samples; models find it by `NAME`."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        AttentionInterface.register(NAME, self)

    def gradient(self, model: Any, batch: MicroBatch, supervised: int) -> Tensor:
        """As `accumulate_gradient`, for a micro-batch of `packed_batches`."""
        lengths = torch.tensor([sample.tokens for sample in batch.samples])
        starts = pad(lengths.cumsum(0), (1, 0))
        self._starts, self._longest = starts.tolist(), int(lengths.max())
        self._starts_there = starts.to(device=model.device, dtype=torch.int32)
        return accumulate_gradient(model, batch, supervised)

    def __call__(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: None, scaling: float, **_: Any
    ) -> tuple[Tensor, None]:
        """Attend within each sample.

        Args:
            module: The attention that calls.
            query: Shape (1, heads, tokens, channels).
            key: Shape (1, heads of keys, tokens, channels).
            value: As ``key``.
            mask: There is none.
            scaling: Of the scores.

        Returns:
            Shape (1, tokens, heads, channels), and no weights.
        """
        key, value = (tensor.repeat_interleave(module.num_key_value_groups, dim=1) for tensor in (key, value))
        if query.is_cuda:
            return self._by_flash(query, key, value, scaling), None
        parts = [
            scaled_dot_product_attention(
                *(tensor[:, :, start:end] for tensor in (query, key, value)), is_causal=True, scale=scaling
            )
            for start, end in pairwise(self._starts)
        ]
        return torch.cat(parts, dim=2).transpose(1, 2), None

    def _by_flash(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn

        rows = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
        starts, longest = self._starts_there, self._longest
        return varlen_attn(*rows, starts, starts, longest, longest, scale=scaling, window_size=(-1, 0))[None]


def packed_batches(samples: Sequence[Sample], max_tokens: int) -> list[MicroBatch]:
    """Lay out samples without a prefix one after the other, in rows of at most so many tokens."""
    rows: list[list[Sample]] = []
    room = 0
    for sample in samples:
        if sample.tokens > room:
            rows.append([])
            room = max_tokens
        rows[-1].append(sample)
        room -= sample.tokens
    return [_packed(row) for row in rows]


def _packed(row: Sequence[Sample]) -> MicroBatch:
    ids = torch.cat([part for sample in row for part in (sample.context, sample.target)])
    positions = torch.cat([torch.arange(sample.tokens) for sample in row])
    ends = torch.tensor([sample.tokens for sample in row]).cumsum(0).tolist()
    predicting = torch.cat(
        [torch.arange(end - sample.supervised, end) for sample, end in zip(row, ends, strict=True)]
    )
    return MicroBatch(ids[None], predicting - 1, ids[predicting], tuple(row), position_ids=positions[None])
