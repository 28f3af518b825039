"""Frozen prefixes: what many samples of a step begin with, read once and without a gradient.

The keys and values of a prefix are computed under the adapter as it is at that step. Forward values of the samples
behind it are those that they would have with the prefix as a part of themselves. What is left out is the gradient that
would flow through the prefix's keys and values.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from lift_eval.loading import autocast


class PrefixError(Exception):
    """The model does not take keys and values from a cache; its samples must be trained whole."""


class FrozenPrefix:
    """Keys and values of a prefix in every layer.

    Args:
        attentions: The attention module of each layer.
        layers: Keys and values of each layer, shapes (1, heads, p, dimension).
    """

    def __init__(self, attentions: Sequence[nn.Module], layers: Iterable[tuple[Tensor, Tensor]]) -> None:
        self._attentions = attentions
        self._layers = [_FrozenLayer(*layer) for layer in layers]

    def before_rows(self) -> AbstractContextManager[None]:
        """Let every attention inside look at the prefix too; the backward pass belongs inside (checkpointing)."""
        return _attending_through(self._attentions, Cache(layers=list(self._layers)))

    def check(self) -> None:
        """Refuse a forward pass in which a layer has not looked at the prefix.

        Raises:
            PrefixError: If there is such a layer.
        """
        if not all(layer.was_read for layer in self._layers):
            raise PrefixError("a layer has not read the prefix")


class _FrozenLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """Keys and values that every row sees in front of its own, and that never grow."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values
        self.was_read = False

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """The prefix's and the row's own states; nothing is kept, so a recomputation finds the same."""
        self.was_read = True
        rows = len(key_states)
        return (
            torch.cat([self.keys.expand(rows, -1, -1, -1), key_states], dim=-2),
            torch.cat([self.values.expand(rows, -1, -1, -1), value_states], dim=-2),
        )


def read_prefix(base: Any, body: Any, prefix: Tensor) -> FrozenPrefix:  # noqa: ANN401
    """Compute the keys and values of a prefix.

    Args:
        base: The model without peft's wrapper.
        body: What makes its hidden states.
        prefix: Token ids, shape (p,), int64, on the model's device.

    Returns:
        The prefix, to be put before rows.

    Raises:
        PrefixError: If the model does not fill a cache in every layer.
    """
    cache = DynamicCache(config=base.config)
    attentions = [module for module in base.modules() if _attends(module)]
    with torch.no_grad(), autocast(base.device, base.dtype), _attending_through(attentions, cache):
        body(input_ids=prefix[None], use_cache=False)
    filled = [layer.get_seq_length() == len(prefix) for layer in cache.layers]
    if not filled or len(filled) != len(attentions) or not all(filled):
        raise PrefixError(f"{sum(filled)} of {len(attentions)} layers fill a cache")
    return FrozenPrefix(attentions, ((layer.keys, layer.values) for layer in cache.layers))


@contextmanager
def _attending_through(attentions: Iterable[nn.Module], cache: Cache) -> Iterator[None]:
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


def _attends(module: nn.Module) -> bool:
    """Whether a module is the attention of a layer: it has the layer's number and no layer's parts around it."""
    return (
        isinstance(getattr(module, "layer_idx", None), int)
        and not any(hasattr(child, "layer_idx") for child in module.modules() if child is not module)
        and "past_key_values" in inspect.signature(module.forward).parameters
    )
