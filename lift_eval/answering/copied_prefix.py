"""Reading what prompts begin with once, on any architecture: they go on from copies of the model's own cache.

No mask is replaced and no padding stands between tokens, since a sliding window counts columns and a recurrent layer
takes tokens in their order. Prompts that go on alike share that too. In the end the caches stand side by side as if the
prompts had been read together, padded on the left, and ``generate`` goes on from there.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from lift_eval.answering.cache_rows import shared_length
from lift_eval.answering.shared_prefix import CHUNK, MIN_SHARED_TOKENS
from lift_eval.models.loading import base_of

_COPIED_LAYERS = {
    "DummyLayer",
    "DynamicLayer",
    "DynamicSlidingWindowLayer",
    "LinearAttentionAndFullAttentionLayer",
    "LinearAttentionAndSlidingWindowAttentionLayer",
    "LinearAttentionLayer",
}
"""Layers of a cache that hold no more than keys, values and states, each row's apart from the others'."""

_STATES = ("conv_states", "recurrent_states")

_TRIED = 8
"""Tokens by which is tried whether a model reads several tokens behind others as it should."""

_ROUNDING = 0.1
"""Share of itself by which a state may differ through rounding."""


@dataclass(frozen=True)
class CopiedPrefix:
    """What all prompts begin with, read once; nothing is read yet where that is too short.

    Attributes:
        model: In evaluation mode.
        piece: Most tokens that it reads at once behind others.
        length: Tokens read.
        cache: What the model remembers of them.
    """

    model: Any
    piece: int
    length: int
    cache: DynamicCache | None

    @classmethod
    def of(cls, model: Any, prompts: Sequence[Sequence[int]], *, plain: bool) -> CopiedPrefix | None:  # noqa: ANN401
        """Read what prompts begin with.

        Args:
            model: PreTrainedModel or PeftModel, in evaluation mode.
            prompts: Token ids of each prompt.
            plain: Whether the most probable token is taken each time, as it is. A purely recurrent model is not given
                the prompts again, on which other ways to choose may depend.

        Returns:
            What is read. None means that no two prompts begin alike, or that the model's cache cannot be copied.
        """
        if not _begin_alike(prompts) or not (plain or _cache_name(model) == "past_key_values"):
            return None
        if not (piece := _piece(model, max(prompts, key=len)[: _TRIED + 2])):
            return None
        shared = shared_length(prompts)
        if shared < MIN_SHARED_TOKENS:
            return cls(model, piece, 0, None)
        return cls(model, piece, shared, _forward(model, [prompts[0][:shared]]))

    def arguments(self, prompts: Sequence[Sequence[int]]) -> dict[str, DynamicCache]:
        """Read some of the prompts but for the last token of each.

        Returns:
            The argument of ``generate`` that holds what is read; none where these prompts begin unlike each other.
        """
        if self.cache is None and not _begin_alike(prompts):
            return {}
        read = {
            number: (cache, row)
            for numbers, cache in self._read(self.cache, self.length, dict(enumerate(prompts)))
            for row, number in enumerate(numbers)
        }
        longest = max(read, key=lambda number: len(prompts[number]))
        return {_cache_name(self.model): _side_by_side([read[number] for number in sorted(read)], longest)}

    def _read(
        self, cache: DynamicCache | None, start: int, prompts: Mapping[int, Sequence[int]]
    ) -> Iterator[tuple[list[int], DynamicCache]]:
        """Read prompts from a place on; yields numbers of prompts with a cache that has a row for each."""
        alone: list[int] = []
        for branch in _branches(prompts, start):
            shared = shared_length([prompts[number] for number in branch])
            if len(branch) > 1 and shared >= start + MIN_SHARED_TOKENS:
                grown = self._grown(cache, [prompts[branch[0]][start:shared]])
                yield from self._read(grown, shared, {number: prompts[number] for number in branch})
            else:
                alone += branch
        lengths = {number: len(prompts[number]) for number in alone}
        for _, alike in groupby(sorted(alone, key=lengths.__getitem__), key=lengths.__getitem__):
            numbers = list(alike)
            yield numbers, self._grown(cache, [prompts[number][start:-1] for number in numbers])

    def _grown(self, cache: DynamicCache | None, rows: Sequence[Sequence[int]]) -> DynamicCache:
        """A copy of a cache for each row, and what is read behind it."""
        if cache is None:
            return _forward(self.model, rows)
        grown = _copied(cache, len(rows))
        for start in range(0, len(rows[0]), self.piece):
            grown = _forward(self.model, [row[start : start + self.piece] for row in rows], grown)
        return grown


def _begin_alike(prompts: Sequence[Sequence[int]]) -> bool:
    """Whether any two prompts share a beginning that is long enough; a single token cannot be read in part."""
    return min(map(len, prompts), default=0) > 1 and any(
        len(branch) > 1 and len(prompts[branch[0]]) > MIN_SHARED_TOKENS
        for branch in _branches(dict(enumerate(prompts)), 0)
    )


def _branches(prompts: Mapping[int, Sequence[int]], start: int) -> Iterator[list[int]]:
    """Numbers of prompts that go on alike from a place."""

    def following(number: int) -> list[int]:
        return list(prompts[number][start : start + MIN_SHARED_TOKENS])

    for _, alike in groupby(sorted(prompts, key=following), key=following):
        yield list(alike)


def _piece(model: Any, ids: Sequence[int]) -> int:  # noqa: ANN401
    """Most tokens that a model reads at once behind others; 0 where its cache cannot be copied.

    Some recurrent layers forget what was before when more than one token follows.
    """
    whole = _forward(model, [ids])
    if (
        type(whole) is not DynamicCache
        or not {type(layer).__name__ for layer in whole.layers} <= _COPIED_LAYERS
    ):
        return 0
    if not any(hasattr(layer, "recurrent_states") for layer in whole.layers):
        return CHUNK
    parts = _forward(model, [ids[_TRIED:]], _forward(model, [ids[:_TRIED]]))
    differ = [
        torch.dist(one, other) > _ROUNDING * one.norm()
        for one, other in zip(_tensors(whole), _tensors(parts), strict=True)
    ]
    return 1 if torch.stack(differ).any() else CHUNK


def _cache_name(model: Any) -> str:  # noqa: ANN401
    return "cache_params" if "cache_params" in _parameters(model) else "past_key_values"


def _parameters(model: Any) -> Mapping[str, inspect.Parameter]:  # noqa: ANN401
    return inspect.signature(base_of(model).forward).parameters


def _forward(model: Any, rows: Sequence[Sequence[int]], cache: DynamicCache | None = None) -> Any:  # noqa: ANN401
    """Read rows of the same length; the model's cache afterwards, which is a new one where none is given."""
    name = _cache_name(model)
    fewest = {"logits_to_keep": 1} if "logits_to_keep" in _parameters(model) else {}
    ids = torch.tensor([list(row) for row in rows], device=model.device)
    return getattr(model(input_ids=ids, use_cache=True, **{name: cache}, **fewest), name, None)


def _tensors(cache: DynamicCache) -> list[Tensor]:
    """Keys, values and states of all layers."""
    kept = [getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values")]
    states = [
        state for layer in cache.layers for name in _STATES for state in getattr(layer, name, {}).values()
    ]
    return [tensor for tensor in (*kept, *states) if tensor is not None]


def _copied(cache: DynamicCache, rows: int) -> DynamicCache:
    """A copy of a cache of one row, for several rows.

    Keys and values are not copied for one: longer ones take their place when tokens are read. States change in place.
    """
    kept = [getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values")]
    copied = copy.deepcopy(cache, {id(tensor): tensor for tensor in kept if tensor is not None})
    if rows > 1:
        copied.reorder_cache(torch.zeros(rows, dtype=torch.int64))
    return copied


def _side_by_side(rows: Sequence[tuple[DynamicCache, int]], longest: int) -> DynamicCache:
    """One cache of several rows, each from a row of a cache; shorter ones end where the longest does."""
    joined = _copied(rows[longest][0], 1)
    for number, layer in enumerate(joined.layers):
        parts = [(cache.layers[number], slice(row, row + 1)) for cache, row in rows]
        for name in ("keys", "values"):
            if getattr(layer, name, None) is not None:
                setattr(layer, name, _joined([getattr(part, name)[row] for part, row in parts]))
        for name in _STATES:
            for place in (states := getattr(layer, name, {})):
                if states[place] is not None:
                    states[place] = torch.cat([getattr(part, name)[place][row] for part, row in parts])
    return joined


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    width = max(tensor.shape[-2] for tensor in tensors)
    return torch.cat([pad(tensor, (0, 0, width - tensor.shape[-2], 0)) for tensor in tensors])
