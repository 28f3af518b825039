"""What tokens to come are expected to attend to (Expected Attention, arXiv 2510.00636)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lift_eval.answering.cache.base import ScoredCache
from lift_eval.errors import CheckpointError
from lift_eval.settings import NonNegativeInt, PositiveInt

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import DynamicCache


class ExpectedAttentionSettings(ScoredCache):
    """The first tokens, and those to which a future query is expected to attend most.

    Queries of the text so far, before their rotary embedding, are taken for normally distributed; rotated by the mean
    of the rotations to come, they have the mean m and the covariance C. The expected weight of a key k is
    exp(s m.k + s^2 k.Ck / 2), with the attention's scale s, as a share of that of all keys. The score is this share,
    the mean over the heads of queries that share the key, times the length of the value.
    """

    type: Literal["expected_attention"] = "expected_attention"
    sinks: NonNegativeInt = 4
    """First tokens, which are always kept; they are not part of means and shares."""
    future: PositiveInt = 512
    """Number of future positions over which rotations are averaged."""

    def kept(self, tokens: int) -> int:
        """How many of so many tokens are kept; the sinks in any case."""
        return min(max(super().kept(tokens), self.sinks + 1), tokens)

    def check(self, model: Any) -> None:  # noqa: ANN401
        """Refuse a model whose queries or rotations are not known; see `CacheSettings.check`."""
        from lift_eval.models.attentions import attention_modules
        from lift_eval.models.loading import base_of

        base = base_of(model)
        attentions = attention_modules(base).values()
        if not all(map(_is_known, attentions)) or not hasattr(base.get_decoder(), "rotary_emb"):
            raise CheckpointError(
                "'decoding.cache.type: expected_attention' needs rotary embeddings and attention modules with q_proj "
                f"or qkv_proj, which {type(base).__name__} does not have; use decoding.cache.type=snapkv, or another "
                "model"
            )

    def scores(self, model: Any, ids: Tensor) -> tuple[DynamicCache, list[Tensor]]:  # noqa: ANN401
        """Expected attention times the length of values; see `ScoredCache.scores`."""
        from lift_eval.answering.cache.columns import read_plainly

        with _Watch(model) as watch:
            cache = read_plainly(model, ids)
        scores = []
        for number, layer in enumerate(cache.layers):
            attention, queries = watch.queries[number]
            rotated = _rotated(attention, queries[:, self.sinks :], *watch.mean_rotation(self.future))
            scores.append(self._scores(layer.keys[0], layer.values[0], rotated, _scale(attention)))
        return cache, scores

    def _scores(self, keys: Tensor, values: Tensor, queries: Tensor, scale: float) -> Tensor:
        """The scores of a layer.

        Args:
            keys: Shape (heads of keys, n, channels).
            values: The same shape, but for the channels.
            queries: Rotated by the mean of the rotations to come, shape (query heads, n - sinks, channels).
            scale: Of the attention's scores.
        """
        import torch
        from torch.nn.functional import pad

        queries, shown = queries.float(), keys[:, self.sinks :].float()
        groups = len(queries) // len(keys)
        mean = queries.mean(dim=1, keepdim=True)
        centred = queries - mean
        covariance = centred.transpose(1, 2) @ centred / queries.shape[1]
        each = shown.repeat_interleave(groups, dim=0)
        logits = scale * (each * mean).sum(-1) + scale**2 / 2 * ((each @ covariance) * each).sum(-1)
        share = torch.unflatten(logits.softmax(dim=-1), 0, (len(keys), groups)).mean(dim=1)
        lengths = values[:, self.sinks :].float().norm(dim=-1)
        return pad(share * lengths, (self.sinks, 0), value=torch.inf)


@dataclass
class _Watch:
    """Notes, while tokens are read inside, the queries of each layer and the rotary embedding's positions.

    Attributes:
        model: The model.
        queries: Of each layer, by its number: the attention module, and its queries before their rotary embedding,
            shape (query heads, n, channels).
    """

    model: Any

    def __post_init__(self) -> None:
        self.queries: dict[int, tuple[Any, Tensor]] = {}

    def __enter__(self) -> _Watch:
        from lift_eval.models.attentions import attention_modules
        from lift_eval.models.loading import base_of

        base = base_of(self.model)
        self._hooks = [
            module.register_forward_pre_hook(self._note_queries, with_kwargs=True)
            for module in attention_modules(base).values()
        ]
        rotary = base.get_decoder().rotary_emb
        self._hooks.append(rotary.register_forward_hook(self._note_positions, with_kwargs=True))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def mean_rotation(self, future: int) -> tuple[Tensor, Tensor]:
        """Means of cosines and sines over the positions that come next, each of shape (1, 1, channels)."""
        import torch

        start = int(self._positions.max()) + 1
        ahead = torch.arange(start, start + future, device=self._positions.device)[None]
        cosines, sines = self._rotary(self._states, ahead)
        return cosines.float().mean(dim=1, keepdim=True), sines.float().mean(dim=1, keepdim=True)

    def _note_positions(
        self, module: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any], _output: object
    ) -> None:
        given = [*inputs, *kwargs.values()]
        self._rotary, self._states, self._positions = module, given[0], given[1]

    def _note_queries(self, module: Any, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ANN401
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else inputs[0]
        width, heads = module.head_dim, module.config.num_attention_heads
        projection = module.q_proj if hasattr(module, "q_proj") else module.qkv_proj
        queries = projection(hidden)[0, :, : heads * width].unflatten(-1, (heads, width))
        norm = getattr(module, "q_norm", None)
        queries = queries if norm is None else norm(queries)
        self.queries[module.layer_idx] = module, queries.transpose(0, 1)


def _is_known(attention: nn.Module) -> bool:
    """Whether the queries of an attention module and their rotation can be computed as its code computes them."""
    projects = hasattr(attention, "q_proj") or hasattr(attention, "qkv_proj")
    norm = getattr(attention, "q_norm", None)
    per_head = norm is None or norm.weight.numel() == getattr(attention, "head_dim", 0)
    known = projects and per_head and hasattr(attention, "head_dim")
    return known and hasattr(_code_of(attention), "apply_rotary_pos_emb")


def _code_of(attention: nn.Module) -> Any:  # noqa: ANN401 - a module of transformers
    return sys.modules[type(attention).__module__]


def _rotated(attention: nn.Module, queries: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    rotated, _ = _code_of(attention).apply_rotary_pos_emb(
        queries[None].float(), queries[None].float(), cosines, sines
    )
    result: Tensor = rotated[0]
    return result


def _scale(attention: Any) -> float:  # noqa: ANN401
    return float(getattr(attention, "scaling", attention.head_dim**-0.5))
