"""A document as a stream: each chunk is learned behind the tokens before it (Temp-LoRA, arXiv 2401.11504)."""

from __future__ import annotations

from torch import Tensor

from lift_eval.training.samples import Sample
from lift_eval.training.segments import segment_ranges


def stream_samples(ids: Tensor, length: int, chunk: int) -> list[Sample]:
    """Cut a document into chunks that follow one another, each behind the tokens before it, which carry no loss.

    Args:
        ids: Token ids of the document, shape (n,).
        length: Most tokens of a chunk and those before it.
        chunk: Tokens of a chunk, less than ``length``.

    Returns:
        One sample for each chunk that has a token to predict, in the document's order.
    """
    samples = [
        Sample(ids[max(span.start - (length - chunk), 0) : span.start], ids[span])
        for span in segment_ranges(len(ids), chunk, chunk)
    ]
    return [sample for sample in samples if sample.supervised]
