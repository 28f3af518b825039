"""What every method says of itself: a module with a child of `CacheSettings`, named in `registry`.

Recipes read these settings, so their modules import torch and transformers inside functions only.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from lift_eval.settings import PositiveInt, Settings

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache


class CacheSettings(Settings):
    """The recipe's group ``decoding.cache``: which keys and values of a document are kept after it has been read.

    The document is read as usual, with all that stands before it in the prompt; what is dropped is dropped afterwards.
    So the peak of memory is that of reading. Keys keep their true positions, and so does what is read behind them.
    """

    type: str

    compresses: ClassVar[bool] = True
    """Whether anything is dropped."""

    @abstractmethod
    def read(self, model: Any, ids: Tensor) -> DynamicCache:  # noqa: ANN401 - PreTrainedModel or PeftModel
        """Read tokens and keep some of their keys and values.

        Args:
            model: In evaluation mode, with attention to all earlier tokens in every layer.
            ids: Token ids, shape (1, n), on the model's device.

        Returns:
            In each layer keys and values of the same number of tokens, which may be others in each head.
        """

    def check(self, model: Any) -> None:  # noqa: ANN401
        """Refuse a model that lacks what the method looks at; nothing by default.

        Raises:
            CheckpointError: If it does.
        """


class ScoredCache(CacheSettings):
    """Keeps the keys and values with the highest scores, separately in each head."""

    tokens: PositiveInt | Annotated[float, Field(gt=0, le=1)] = 0.5
    """Number of tokens to keep, or their share of those that were read."""

    @abstractmethod
    def scores(self, model: Any, ids: Tensor) -> tuple[DynamicCache, list[Tensor]]:  # noqa: ANN401
        """Read tokens and score them.

        Args:
            model: As in `read`.
            ids: As in `read`.

        Returns:
            Keys and values of all tokens, and their scores in each layer, shape (heads of keys, n).
        """

    def kept(self, tokens: int) -> int:
        """How many of so many tokens are kept."""
        wanted = self.tokens if isinstance(self.tokens, int) else round(self.tokens * tokens)
        return max(min(wanted, tokens), 1)

    def read(self, model: Any, ids: Tensor) -> DynamicCache:  # noqa: ANN401
        """Read tokens and keep those with the highest scores; see `CacheSettings.read`."""
        from lift_eval.answering.cache.columns import keep, read_plainly

        count = self.kept(ids.shape[1])
        if count == ids.shape[1]:
            return read_plainly(model, ids)
        cache, scores = self.scores(model, ids)
        keep(cache, [layer.topk(count, dim=-1).indices.sort(dim=-1).values for layer in scores])
        return cache
