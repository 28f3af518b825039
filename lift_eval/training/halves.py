"""Halves: random chunks of the document, cut in two (deep context distillation, arXiv 2503.08727).

The second half is learned. A teacher reads the first half before it; what is trained does not.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Generator, Tensor

from lift_eval.training.samples import Sample
from lift_eval.training.segments import segment_ranges

Halves: TypeAlias = tuple[slice, slice]
"""Ranges of a document's tokens: both halves of a chunk."""


def first_half(length: int) -> int:
    """Tokens of the first half of a chunk; the second has one or two more, since its first token is not predicted."""
    return (length - 1) // 2


def draw_halves(tokens: int, length: int, stride: int, generator: Generator) -> list[Halves]:
    """Draw chunks, each with the same probability at any place of the document.

    Args:
        tokens: Tokens of the document.
        length: Tokens of a chunk; a shorter document is one.
        stride: Tokens of the document for each chunk after the first: there are as many chunks as segments.
        generator: Source of randomness; on the CPU.

    Returns:
        The halves of each chunk.
    """
    length = min(length, tokens)
    count = len(segment_ranges(tokens, length, stride))
    starts = torch.randint(0, tokens - length + 1, (count,), generator=generator).tolist()
    cut = first_half(length)
    return [(slice(start, start + cut), slice(start + cut, start + length)) for start in starts]


def halved_samples(ids: Tensor, halves: list[Halves]) -> list[Sample]:
    """One sample of each chunk.

    Args:
        ids: Token ids of the document, shape (n,).
        halves: Ranges of its tokens.
    """
    nothing = torch.empty(0, dtype=torch.int64)
    return [Sample(nothing, ids[second], teacher_context=ids[first], once=True) for first, second in halves]
