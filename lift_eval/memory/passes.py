"""Rows of many tokens, simulated with the largest of their passes alone.

Keys and values whose place is made beforehand (`KeyValues`) take the same memory from one pass to the next, and all
else that a pass takes is gone when it ends. So of passes with as many new tokens, the one that reads most columns takes
most.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

from lift_eval.answering.key_values import KeyValues
from lift_eval.models.loading import base_of, body_of


class Pass(NamedTuple):
    """A walk over a model's layers with keys and values whose place is made beforehand.

    Attributes:
        shape: Of the new tokens: rows, tokens of each.
        columns: How many are read.
    """

    shape: tuple[int, ...]
    columns: int


def largest(passes: Sequence[Pass]) -> Collection[int]:
    """The numbers of the passes that take most: one for each shape, the first of those that are alike."""
    rising = sorted(enumerate(passes), key=lambda item: (item[1].columns, -item[0]))
    return {one.shape: number for number, one in rising}.values()


@contextmanager
def computing(model: Any, wanted: Collection[int]) -> Iterator[list[Pass]]:  # noqa: ANN401
    """Let a model compute only some of its passes inside; those between give hidden states of any values.

    Args:
        model: From `fake_model`.
        wanted: Numbers of the passes to compute. Others have no number and are always computed: those with caches that
            grow, and the one that makes the place of keys and values.

    Yields:
        The passes in their order, as they come.
    """
    passes: list[Pass] = []
    body = body_of(base_of(model))
    if body is None:
        yield passes
        return
    compute, embeddings, computed = body.forward, body.get_input_embeddings().weight, None

    @wraps(compute)
    def forward(*args: Any, **inputs: Any) -> Any:  # noqa: ANN401
        nonlocal computed
        memory, tokens = inputs.get("past_key_values"), inputs.get("input_ids")
        if isinstance(memory, KeyValues) and memory.is_initialized and tokens is not None:
            passes.append(Pass(tuple(tokens.shape), memory.stop))
            if computed is not None and len(passes) - 1 not in wanted:
                kind, width = computed
                hidden = embeddings.new_empty(*tokens.shape, width)
                return kind(last_hidden_state=hidden, past_key_values=memory)
        output = compute(*args, **inputs)
        computed = type(output), output.last_hidden_state.shape[-1]
        return output

    body.forward = forward
    try:
        yield passes
    finally:
        del body.forward
