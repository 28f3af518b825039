"""What the last tokens attend to (SnapKV, arXiv 2404.14469)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator

from lift_eval.answering.cache.base import ScoredCache
from lift_eval.settings import PositiveInt

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache


def _odd(width: int) -> int:
    if width % 2 == 0:
        raise ValueError(f"'decoding.cache.kernel' must be odd, so that it has a middle, got {width}")
    return width


class SnapKVSettings(ScoredCache):
    """The last tokens of the document, and the earlier tokens to which they attend most.

    The score of a token is the attention that it gets from all of them together, the mean over its neighbourhood, and
    over the heads of queries that share its keys.
    """

    type: Literal["snapkv"] = "snapkv"
    observed: PositiveInt = 32
    """Number of last tokens that are observed and kept."""
    kernel: Annotated[PositiveInt, AfterValidator(_odd)] = 7
    """Size of a neighbourhood in tokens; positions beyond the ends count as 0."""

    def kept(self, tokens: int) -> int:
        """How many of so many tokens are kept; the observed ones in any case."""
        return min(max(super().kept(tokens), self.observed), tokens)

    def scores(self, model: Any, ids: Tensor) -> tuple[DynamicCache, list[Tensor]]:  # noqa: ANN401
        """Attention from the last tokens to those before them; see `ScoredCache.scores`."""
        import torch
        from torch.nn.functional import avg_pool1d

        from lift_eval.answering.cache.columns import read_plainly
        from lift_eval.answering.grouped_attention import attending_by
        from lift_eval.models.attentions import attention_modules
        from lift_eval.models.loading import base_of

        before = ids.shape[1] - self.observed
        cache = read_plainly(model, ids[:, :before])
        found: dict[int, Tensor] = {}

        def score(module: Any, _inputs: object, output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
            # Shape (query heads, observed, columns), of which an adapter may have put some in front.
            received = output[1][0, :, :, -ids.shape[1] : -self.observed].float().sum(dim=1)
            pooled = avg_pool1d(received, self.kernel, stride=1, padding=self.kernel // 2)
            heads = cache.layers[module.layer_idx].keys.shape[1]
            shared = torch.unflatten(pooled, 0, (heads, -1)).mean(dim=1)
            found[module.layer_idx] = torch.nn.functional.pad(shared, (0, self.observed), value=torch.inf)

        attentions = attention_modules(base_of(model)).values()
        hooks = [module.register_forward_hook(score) for module in attentions]
        try:
            with attending_by(model, "eager"):  # which returns what it attends to
                read_plainly(model, ids[:, before:], cache)
        finally:
            for hook in hooks:
                hook.remove()
        return cache, [found[number] for number in range(len(cache.layers))]
