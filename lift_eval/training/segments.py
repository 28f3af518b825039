"""Segments: overlapping slices of the document (paper, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from lift_eval.training.samples import Sample


def segment_ranges(tokens: int, length: int, stride: int) -> list[slice]:
    """Where the overlapping segments of a document lie.

    Segments start at 0, stride, 2 * stride, ...; the one that reaches the end is the last, since each further one
    would hold no token that it does not hold (the published code keeps those tails; docs/deviations.md).

    Args:
        tokens: Tokens of the document.
        length: Tokens of a segment.
        stride: Tokens between the starts of neighbours, at most ``length``.

    Returns:
        Ranges of tokens; together they hold every token. A document shorter than a segment is one segment.
    """
    count = 1 + max(0, -(-(tokens - length) // stride))
    return [slice(start, min(start + length, tokens)) for start in range(0, count * stride, stride)]


def segments(ids: Tensor, length: int, stride: int) -> list[Tensor]:
    """Slice a document into overlapping segments; see `segment_ranges`.

    Args:
        ids: Token ids of the document, shape (n,), without special tokens.
        length: Tokens of a segment.
        stride: Tokens between the starts of neighbours, at most ``length``.

    Returns:
        Views of ``ids``.
    """
    return [ids[span] for span in segment_ranges(len(ids), length, stride)]


def segment_samples(ids: Tensor, length: int, stride: int) -> list[Sample]:
    """Plain next-token samples: every token of a segment but its first is supervised.

    Args:
        ids: Token ids of the document, shape (n,).
        length: Tokens of a segment.
        stride: Tokens between the starts of neighbours.

    Returns:
        One sample for each segment that has a token to predict.
    """
    nothing = torch.empty(0, dtype=torch.int64)
    samples = [Sample(nothing, segment) for segment in segments(ids, length, stride)]
    return [sample for sample in samples if sample.supervised]
