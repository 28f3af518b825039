"""Contextualized training: a segment is recited behind windows of the document's two ends (paper, section 3.3).

The model sees the kind of prompt that it will answer from, a document whose middle is missing, and learns to recall
the missing part. The loss counts the segment only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from lift_eval.training.samples import Sample
from lift_eval.training.segments import segments

Windows: TypeAlias = tuple[slice, slice]
"""Ranges of a document's tokens: a front window and a back window."""


def draw_windows(length: int, window_tokens: int, generator: Generator) -> Windows:
    """Draw a window of the document's front and one of its back.

    Their lengths sum to ``window_tokens``: the front's is uniform in [0, window_tokens). The front window lies at a
    random place within the first ``window_tokens`` tokens of the document, the back window within the last. For a
    document shorter than ``window_tokens`` all three are clamped to its length, so that no window is empty by
    accident (the published code assumes longer documents; docs/deviations.md).

    Args:
        length: Tokens of the document.
        window_tokens: Tokens of both windows together.
        generator: Source of randomness.

    Returns:
        Ranges of the document's tokens: front, back.
    """
    span = min(window_tokens, length)
    front = _uniform(0, span, generator)
    back = span - front
    front_start = _uniform(0, span - front + 1, generator)
    back_start = length - span + _uniform(0, span - back + 1, generator)
    return slice(front_start, front_start + front), slice(back_start, back_start + back)


def contextualized_samples(
    ids: Tensor,
    length: int,
    stride: int,
    *,
    windows: list[Windows],
    ellipsis: Tensor,
    instruction: Tensor,
) -> list[Sample]:
    """Samples of front window, ellipsis, back window, instruction -> segment.

    Args:
        ids: Token ids of the document, shape (n,).
        length: Tokens of a segment.
        stride: Tokens between the starts of neighbours.
        windows: A front and a back window for each segment.
        ellipsis: Token ids between the windows.
        instruction: Token ids that ask to recite.

    Returns:
        One sample for each segment.
    """
    return [
        Sample(torch.cat([ids[front], ellipsis, ids[back], instruction]), segment)
        for segment, (front, back) in zip(segments(ids, length, stride), windows, strict=True)
    ]


def frozen_recitations(
    ids: Tensor,
    parts: Sequence[Tensor],
    *,
    windows: Windows,
    ellipsis: Tensor,
    instruction: Tensor,
) -> list[Sample]:
    """The same samples behind one and the same front and back window, which are their frozen prefix.

    Args:
        ids: Token ids of the document, shape (n,).
        parts: Segments of the document.
        windows: The front and the back window.
        ellipsis: Token ids between the windows.
        instruction: Token ids that ask to recite.

    Returns:
        One sample for each segment. Its context is the instruction, or the last token of the windows without one.
    """
    front, back = windows
    read = torch.cat([ids[front], ellipsis, ids[back], instruction])
    frozen = len(read) - max(len(instruction), 1)
    return [Sample(read[frozen:], part, read[:frozen]) for part in parts]


def _uniform(low: int, high: int, generator: Generator) -> int:
    return int(torch.randint(low, high, (), generator=generator))
