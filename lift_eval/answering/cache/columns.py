"""Reading tokens into a cache, and keeping some of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import DynamicCache


def read_plainly(model: Any, ids: Tensor, cache: DynamicCache | None = None) -> DynamicCache:  # noqa: ANN401
    """Read tokens.

    Args:
        model: PreTrainedModel or PeftModel, in evaluation mode.
        ids: Token ids, shape (1, n).
        cache: What was read before them, which grows. None means nothing.

    Returns:
        Keys and values of all that was read.
    """
    cache = DynamicCache(config=model.config) if cache is None else cache
    model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def keep(cache: DynamicCache, columns: Sequence[Tensor]) -> None:
    """Drop all columns but some.

    Args:
        cache: Keys and values of one row.
        columns: Those to keep in each layer, ascending, shape (heads of keys, m).
    """
    for layer, kept in zip(cache.layers, columns, strict=True):
        place = kept.to(layer.keys.device)[None, :, :, None]
        layer.keys = layer.keys.gather(2, place.expand(-1, -1, -1, layer.keys.shape[-1]))
        layer.values = layer.values.gather(2, place.expand(-1, -1, -1, layer.values.shape[-1]))
