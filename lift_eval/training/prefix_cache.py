"""The prefix cache: a beginning that many samples of a step share is read once.

The keys and values of a prefix are computed under the adapter as it is at that step, and given to the rows behind it.
Forward values of these are those that they would have with the prefix as a part of themselves. So is the gradient: each
backward pass behind the prefix adds to the gradient of its keys and values, and after the last one this gradient goes
on to the parameters, once. A frozen prefix leaves this part of the gradient out, and keeps nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from lift_eval.models.attentions import attention_modules
from lift_eval.models.loading import autocast

Columns = tuple[Tensor, Tensor]
"""Keys and values of some tokens in a layer, shapes (1, heads, tokens, channels)."""


class PrefixError(Exception):
    """The model does not take keys and values from a cache; its samples must be trained whole."""


class PrefixCache:
    """Keys and values of a prefix and of the prefixes before it, in every layer.

    Args:
        attentions: The attention module of each layer.
        reading: The cache that the prefix was read with.
        behind: The prefix before it, if there is one.
    """

    columns: list[list[Columns]]
    """For each layer, those of all prefixes up to this one."""

    def __init__(self, attentions: Sequence[nn.Module], reading: Cache, behind: PrefixCache | None) -> None:
        self.attentions = attentions
        self._reading = reading
        # The gradient of rows ends at these leaves, so that each row's graph can be freed before the next row.
        self._leaves = [
            (_leaf(keys), _leaf(values)) for keys, values in (layer.own for layer in reading.layers)
        ]
        before = behind.columns if behind else [[] for _ in self._leaves]
        self.columns = [[*columns, own] for columns, own in zip(before, self._leaves, strict=True)]

    @contextmanager
    def before_rows(self) -> Iterator[None]:
        """Let every attention inside look at the prefix too; the backward pass belongs inside (checkpointing).

        Raises:
            PrefixError: If a layer has not looked at it.
        """
        layers = [_PrefixLayer(columns) for columns in self.columns]
        with _attending_through(self.attentions, Cache(layers=layers)):
            yield
        if not all(layer.was_read for layer in layers):
            raise PrefixError("a layer has not read the cached prefix before its rows")

    def beginning(self, tokens: int) -> PrefixCache:
        """The first tokens of a frozen prefix, as a prefix of their own; nothing is copied."""
        part = copy(self)
        part.columns = [
            [(keys[..., :tokens, :], values[..., :tokens, :]) for keys, values in columns]
            for columns in self.columns
        ]
        return part

    def backpropagate(self) -> None:
        """Backpropagate the gradient of the keys and values to the parameters and to the prefixes before this one.

        Call it once, after the backward passes of all rows behind the prefix.
        """
        read = [tensor for layer in self._reading.layers for tensor in layer.own]
        leaves = [leaf for pair in self._leaves for leaf in pair]
        reached = [pair for pair in zip(read, leaves, strict=True) if pair[1].grad is not None]
        if reached:
            with _attending_through(self.attentions, self._reading):
                torch.autograd.backward([tensor for tensor, _ in reached], [leaf.grad for _, leaf in reached])


def fill_prefix_cache(
    base: Any,  # noqa: ANN401
    body: Any,  # noqa: ANN401
    inputs: Mapping[str, Any],
    *,
    behind: PrefixCache | None,
    frozen: bool,
) -> PrefixCache:
    """Compute the keys and values of a prefix.

    Args:
        base: The model without peft's wrapper.
        body: The part of it that computes hidden states.
        inputs: The body's arguments for a row of the prefix's tokens.
        behind: The prefix that this one stands behind, if there is one.
        frozen: Whether the prefix gets no gradient.

    Returns:
        The cache of the prefix.

    Raises:
        PrefixError: If the model does not fill a cache in every layer.
    """
    attentions = behind.attentions if behind else list(attention_modules(base).values())
    count = 1 + max((int(module.layer_idx) for module in attentions), default=-1)  # type: ignore[arg-type]
    layers = [_ReadingLayer(columns) for columns in (behind.columns if behind else [[]] * count)]
    cache = Cache(layers=layers)
    with (
        torch.set_grad_enabled(not frozen),
        autocast(base.device, base.dtype),
        _attending_through(attentions, cache),
    ):
        body(**inputs)
    length = inputs["input_ids"].shape[1]
    filled = [layer.was_read and layer.own[0].shape[-2] == length for layer in layers]
    if not filled or len(filled) != len(attentions) or not all(filled):
        raise PrefixError(f"{sum(filled)} of {len(attentions)} layers fill a cache")
    return PrefixCache(attentions, cache, behind)


class _PrefixLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """Columns that every row sees in front of its own. Nothing is added, so a recomputation finds the same.

    Args:
        before: Columns of the prefixes, in their order.
    """

    def __init__(self, before: Sequence[Columns]) -> None:
        super().__init__()
        self.before = before
        self.was_read = False

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of the prefixes and of the rows, side by side."""
        self.was_read = True
        if not self.before:
            return key_states, value_states
        keys, values = zip(*self.before, strict=True)
        return _joined(keys, key_states), _joined(values, value_states)


class _ReadingLayer(_PrefixLayer):
    """A prefix layer that also keeps the first columns that it is given."""

    own: Columns

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        if not self.was_read:  # else activations are computed anew
            self.own = key_states, value_states
        return super().update(key_states, value_states)


def _joined(before: Sequence[Tensor], own: Tensor) -> Tensor:
    return torch.cat([*(tensor.expand(len(own), -1, -1, -1) for tensor in before), own], dim=-2)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)


@contextmanager
def _attending_through(attentions: Sequence[nn.Module], cache: Cache) -> Iterator[None]:
    """Give a cache to every attention itself: gradient checkpointing takes it from the layers around them."""

    def give(
        _module: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return inputs, {**kwargs, "past_key_values": cache}

    handles = [module.register_forward_pre_hook(give, with_kwargs=True) for module in attentions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
