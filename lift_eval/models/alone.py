"""Operations of an answer that shares nothing with others, by the formula of `operations`.

Answers about one document share what is read of it, which is counted as it is done. A question that comes by itself
reads its whole prompt.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lift_eval.models.loading import base_of
from lift_eval.models.operations import Shape, columns_before, tuner_of


def answered_alone(
    model: Any,  # noqa: ANN401
    answers: Iterable[tuple[int, int]],
    *,
    adapter_reads: bool = True,
    adapter_writes: bool = True,
) -> int:
    """Operations of answers if each were given by itself.

    Args:
        model: A causal LM of transformers, with or without an adapter.
        answers: Tokens of the prompt and of the answer of each. Keys that a cache drops count as if they were kept.
        adapter_reads: Whether the adapter is at work while the prompt is read.
        adapter_writes: Whether it is while the answer is written.
    """
    shape, head = Shape.of(model), 0
    before = columns_before(tuner_of(base_of(model)))
    total = 0
    for read, written in answers:
        looks = sum(before + read + place for place in range(1, written + 1))
        total += shape.body(read, read * (before + read), adapted=adapter_reads, backward=False)
        total += shape.body(written, looks, adapted=adapter_writes, backward=False)
        head += 1 + written
    return total + 2 * shape.head * head
