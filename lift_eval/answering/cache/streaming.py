"""Sinks and a window: the first and the last tokens (StreamingLLM, arXiv 2309.17453)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from lift_eval.answering.cache.base import CacheSettings
from lift_eval.settings import NonNegativeInt, PositiveInt

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache


class StreamingSettings(CacheSettings):
    """The first tokens, to which many models always attend, and the last tokens."""

    type: Literal["streaming"] = "streaming"
    sinks: NonNegativeInt = 4
    """Tokens kept at the beginning."""
    window: PositiveInt = 1020
    """Tokens kept at the end."""

    def columns(self, tokens: int) -> list[int]:
        """Which of so many tokens are kept."""
        sinks = min(self.sinks, tokens)
        return [*range(sinks), *range(max(tokens - self.window, sinks), tokens)]

    def read(self, model: Any, ids: Tensor) -> DynamicCache:  # noqa: ANN401
        """Read tokens and keep sinks and window; see `CacheSettings.read`."""
        import torch

        from lift_eval.answering.cache.columns import keep, read_plainly

        cache = read_plainly(model, ids)
        kept = torch.tensor(self.columns(ids.shape[1]))
        keep(cache, [kept.expand(layer.keys.shape[1], -1) for layer in cache.layers])
        return cache
