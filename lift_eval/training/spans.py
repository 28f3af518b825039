"""Spans: random stretches of the document, each behind all that stands before it (qTTT, arXiv 2512.13898)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lift_eval.training.samples import Sample


def draw_spans(tokens: int, length: int, count: int, generator: Generator) -> list[slice]:
    """Draw spans, each with the same probability at any place of the document.

    Args:
        tokens: Tokens of the document.
        length: Tokens of a span; a shorter document is one.
        count: How many spans.
        generator: Source of randomness; on the CPU.

    Returns:
        Ranges of tokens.
    """
    length = min(length, tokens)
    starts = torch.randint(0, tokens - length + 1, (count,), generator=generator).tolist()
    return [slice(start, start + length) for start in starts]


def span_samples(ids: Tensor, spans: list[slice]) -> list[Sample]:
    """One sample of each span, whose tokens but the first are learned; all before it is a frozen prefix.

    Args:
        ids: Token ids of the document, shape (n,).
        spans: Ranges of its tokens, two or more of them each.
    """
    return [
        Sample(ids[span.start : span.start + 1], ids[span.start + 1 : span.stop], ids[: span.start])
        for span in spans
    ]
