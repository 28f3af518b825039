"""All methods. A recipe's group ``decoding.cache`` is the settings of one of them, chosen by ``type``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from lift_eval.answering.cache.base import CacheSettings
from lift_eval.answering.cache.expected_attention import ExpectedAttentionSettings
from lift_eval.answering.cache.snapkv import SnapKVSettings
from lift_eval.answering.cache.streaming import StreamingSettings

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache


class WholeCache(CacheSettings):
    """All keys and values are kept."""

    type: Literal["none"] = "none"

    compresses: ClassVar[bool] = False

    def read(self, model: Any, ids: Tensor) -> DynamicCache:  # noqa: ANN401
        """Read tokens; see `CacheSettings.read`."""
        from lift_eval.answering.cache.columns import read_plainly

        return read_plainly(model, ids)


CacheMethod: TypeAlias = Annotated[
    WholeCache | StreamingSettings | SnapKVSettings | ExpectedAttentionSettings,
    Field(discriminator="type"),
]
