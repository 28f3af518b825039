"""Deep models, simulated with their first layers alone, and many rows, simulated as few.

A simulated pass takes processor time for every layer. Where a model's layers repeat, each further round of them adds
the same bytes to what is alive at a moment of the pass, counted from the beginning or the end of its section. Two
depths therefore tell what any depth takes. In the same way two numbers of rows tell what any number takes, where rows
are alike and read one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn

from lift_eval.models.loading import base_of, body_of

FEWEST_LAYERS = 3
"""Of a shallow model: the first and the last layer, which may differ from others, and one between them."""
WORTH_IT = 0.75
"""Most layers of both shallow models, as a share of the whole one's."""

Sections = Sequence[Sequence[int]]
"""The bytes alive after each new tensor, in the order of the pass. A section holds at most one walk over the layers."""


def most_alive(model: Any, measure: Callable[[], Sections]) -> int:  # noqa: ANN401
    """Most bytes alive in a pass over a model.

    Args:
        model: From `fake_model`.
        measure: Makes the pass with the layers that the model has.
    """
    stack = _stack_of(model)
    depths = () if stack is None else _shallow(_kinds(model, stack.layers))
    if stack is None or not depths:
        return max(map(max, filter(None, measure())), default=0)
    few, many = depths
    with _first_layers(model, stack, few):
        flat = measure()
    with _first_layers(model, stack, many):
        deep = measure()
    if len(flat) != len(deep):
        return max(map(max, filter(None, measure())), default=0)
    rounds = (len(stack.layers) - many) / (many - few)
    return max(
        (
            round(more + (more - less) * rounds)
            for one, other in zip(flat, deep, strict=True)
            for less, more in _same_moments(one, other)
        ),
        default=0,
    )


def more_rows(two: Sections, three: Sections, rows: int) -> Sections:
    """What a pass takes with more rows, each read by itself.

    Args:
        two: The pass with two rows.
        three: The pass with three rows.
        rows: How many there are.
    """
    # As many sections as reading a row takes, and the one behind it, which prepares decoding and not another row.
    last = len(three) - len(two) + 1
    pairs = [*zip(two[:-last], three, strict=False), *zip(two[-last:], three[-last:], strict=True)]
    return [
        [less + (more - less) * (rows - 2) for less, more in _same_moments(one, other)]
        for one, other in pairs
    ]


class _Stack(NamedTuple):
    """Where a model has its layers."""

    body: Any
    name: str
    layers: nn.ModuleList


def _stack_of(model: Any) -> _Stack | None:  # noqa: ANN401
    config, body = _text_config(model), body_of(base_of(model))
    if body is None or getattr(config, "num_kv_shared_layers", None):
        return None
    found = (
        _Stack(body, name, child)
        for name, child in body.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == getattr(config, "num_hidden_layers", None)
    )
    return next(found, None)


def _kinds(model: Any, layers: nn.ModuleList) -> list[object]:  # noqa: ANN401
    """What tells layers apart."""
    types = getattr(_text_config(model), "layer_types", None) or [""] * len(layers)
    return [
        (kind, [(name, one.shape, one.dtype, one.requires_grad) for name, one in layer.named_parameters()])
        for kind, layer in zip(types, layers, strict=True)
    ]


def _shallow(kinds: Sequence[object]) -> tuple[int, int] | tuple[()]:
    """Two numbers of layers, a round of kinds apart, that end with the last layer's kind; none if few repeat."""
    count = len(kinds)
    for period in range(1, count):
        few = FEWEST_LAYERS + (count - FEWEST_LAYERS) % period
        if 2 * few + period > WORTH_IT * count:
            return ()
        if all(kinds[place] == kinds[place % period] for place in range(count)):
            return few, few + period
    return ()


@contextmanager
def _first_layers(model: Any, stack: _Stack, count: int) -> Iterator[None]:  # noqa: ANN401
    """Let a model have its first layers alone."""
    config = _text_config(model)
    types = getattr(config, "layer_types", None)
    whole = config.num_hidden_layers
    setattr(stack.body, stack.name, stack.layers[:count])
    config.num_hidden_layers = count
    if types:
        config.layer_types = types[:count]
    try:
        yield
    finally:
        setattr(stack.body, stack.name, stack.layers)
        config.num_hidden_layers = whole
        if types:
            config.layer_types = types


def _same_moments(flat: Sequence[int], deep: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Bytes alive in a section of both passes: one half counted from the beginning, the other from the end."""
    half = len(flat) // 2
    yield from zip(flat[:half], deep[:half], strict=True)
    yield from zip(flat[half:], deep[len(deep) - len(flat) + half :], strict=True)


def _text_config(model: Any) -> Any:  # noqa: ANN401
    return base_of(model).config.get_text_config()
