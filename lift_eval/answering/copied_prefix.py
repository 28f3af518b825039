"""Reading what prompts begin with once, on any architecture: they go on from copies of the model's own cache.

No mask is replaced and no padding stands between tokens, since a sliding window counts columns and a recurrent layer
takes tokens in their order. Prompts that go on alike share that too, and so do prompts that come later, such as the
second turn of a conversation. The caches of a batch stand side by side as if its prompts had been read together, padded
on the left, and ``generate`` goes on from there.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import eq
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


class CopiedPrefix:
    """What prompts begin with: read once, and kept for as long as prompts are to come that begin with it.

    Args:
        model: In evaluation mode.
        piece: Most tokens that it reads at once behind others.
    """

    def __init__(self, model: Any, piece: int) -> None:  # noqa: ANN401
        self.model, self.piece = model, piece
        self._read: dict[tuple[int, ...], DynamicCache | None] = {(): None}
        """The model's cache behind tokens that are read."""

    @classmethod
    def of(cls, model: Any, prompts: Sequence[Sequence[int]], *, plain: bool) -> CopiedPrefix | None:  # noqa: ANN401
        """Find out whether prompts can be read like this.

        Args:
            model: PreTrainedModel or PeftModel, in evaluation mode.
            prompts: Token ids of each prompt.
            plain: Whether the most probable token is taken each time, as it is. A purely recurrent model is not given
                the prompts again, on which other ways to choose may depend.

        Returns:
            Nothing is read yet. None means that no two prompts begin alike, or that the model's cache cannot be copied.
        """
        if not _begin_alike(prompts, len(prompts)) or not (plain or _cache_name(model) == "past_key_values"):
            return None
        piece = _piece(model, max(prompts, key=len)[: _TRIED + 2])
        return cls(model, piece) if piece else None

    def arguments(
        self, prompts: Sequence[Sequence[int]], to_come: Sequence[Sequence[int]] = ()
    ) -> dict[str, DynamicCache]:
        """Read prompts but for the last token of each.

        Args:
            prompts: Token ids of each prompt.
            to_come: Prompts that are read later; what they share with these is not read again then.

        Returns:
            The argument of ``generate`` that holds what is read; none where nothing is shared.
        """
        every, count = [*prompts, *to_come], len(prompts)
        behind: dict[tuple[int, ...], dict[int, Sequence[int]]] = {}
        for number, prompt in enumerate(every):
            behind.setdefault(self._known(prompt), {})[number] = prompt
        if not any(map(self._known, prompts)) and not _begin_alike(every, count):
            return {}
        read = {
            number: (cache, row)
            for known, some in behind.items()
            for numbers, cache in self._go_on(known, some, count)
            for row, number in enumerate(numbers)
        }
        longest = max(read, key=lambda number: len(prompts[number]))
        joined = _side_by_side([read[number] for number in range(count)], longest)
        useful = {self._known(prompt) for prompt in to_come}
        self._read = {ids: cache for ids, cache in self._read.items() if not ids or ids in useful}
        return {_cache_name(self.model): joined}

    def _known(self, prompt: Sequence[int]) -> tuple[int, ...]:
        """The most tokens at a prompt's beginning that are read, short of its last."""
        known = (ids for ids in self._read if len(ids) < len(prompt) and all(map(eq, ids, prompt)))
        return max(known, key=len)

    def _go_on(
        self, known: tuple[int, ...], prompts: Mapping[int, Sequence[int]], count: int
    ) -> Iterator[tuple[list[int], DynamicCache]]:
        """Read those of the first prompts that begin with known tokens; yields their numbers with a row for each."""
        alone: list[int] = []
        for branch in branches(prompts, len(known)):
            shared = shared_length([prompts[number] for number in branch])
            wanted = [number for number in branch if number < count]
            if wanted and len(branch) > 1 and shared >= len(known) + MIN_SHARED_TOKENS:
                further = tuple(prompts[branch[0]][:shared])
                self._read[further] = self._grown(known, [further])
                yield from self._go_on(further, {number: prompts[number] for number in branch}, count)
            else:
                alone += wanted
        lengths = {number: len(prompts[number]) for number in alone}
        for _, alike in groupby(sorted(alone, key=lengths.__getitem__), key=lengths.__getitem__):
            numbers = list(alike)
            yield numbers, self._grown(known, [prompts[number][:-1] for number in numbers])

    def _grown(self, known: tuple[int, ...], rows: Sequence[Sequence[int]]) -> DynamicCache:
        """The cache behind rows of the same length that begin with known tokens."""
        cache, start = self._read[known], len(known)
        if cache is None:
            return _forward(self.model, rows)
        grown = _copied(cache, len(rows))
        for place in range(start, len(rows[0]), self.piece):
            grown = _forward(self.model, [row[place : place + self.piece] for row in rows], grown)
        return grown


def _begin_alike(prompts: Sequence[Sequence[int]], count: int) -> bool:
    """Whether any of the first prompts shares a long beginning with another; a single token cannot be read in part."""
    return min(map(len, prompts), default=0) > 1 and any(
        len(branch) > 1 and min(branch) < count and len(prompts[branch[0]]) > MIN_SHARED_TOKENS
        for branch in branches(dict(enumerate(prompts)), 0)
    )


def branches(prompts: Mapping[int, Sequence[int]], start: int) -> Iterator[list[int]]:
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
    rounding = torch.finfo(model.dtype).eps ** 0.5  # far more than a few operations round
    differ = [
        torch.dist(one, other) > rounding * one.norm()
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
