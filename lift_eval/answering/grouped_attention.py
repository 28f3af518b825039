"""Attention under a mask without a copy of the keys and values for each head of the queries.

Where several heads of the queries share one of the keys and values, transformers repeats these under a mask. For a
few new tokens behind thousands of earlier ones that costs far more than the attention. Here the heads that share stand
behind each other as queries of one head, which is the same sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

_NAME = "lift_eval_grouped"


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,  # noqa: ANN401 - the signature of transformers' attention functions
) -> tuple[Tensor, None]:
    """Attend as transformers' ``sdpa`` does.

    Args:
        module: The attention module.
        query: Shape (rows, heads, new tokens, channels).
        key: Shape (rows, fewer heads, columns, channels).
        value: The same shape, but for the channels.
        attention_mask: Shape (rows, 1, new tokens, columns).
        dropout: Probability of dropout; 0 in evaluation mode.
        scaling: Of the scores.
        more: What only ``sdpa`` knows.

    Returns:
        Shape (rows, new tokens, heads, channels); and nothing.
    """
    sharing = query.shape[1] // key.shape[1]
    if sharing == 1 or attention_mask is None or more.get("position_bias") is not None:
        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
        return attended
    rows, heads, new, channels = query.shape
    output = scaled_dot_product_attention(
        query.reshape(rows, heads // sharing, sharing * new, channels),
        key,
        value,
        attn_mask=attention_mask.repeat(1, 1, sharing, 1),
        dropout_p=dropout,
        scale=scaling,
    )
    return output.reshape(rows, heads, new, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(_NAME, grouped_attention)


@contextmanager
def grouped(model: Any) -> Iterator[None]:  # noqa: ANN401 - PreTrainedModel or PeftModel
    """Let a model attend this way inside, if it attends by ``sdpa``. Forward passes must come with their masks."""
    if model.config.get_text_config()._attn_implementation != "sdpa":
        yield
        return
    with attending_by(model, _NAME):
        yield


@contextmanager
def attending_by(model: Any, implementation: str) -> Iterator[None]:  # noqa: ANN401
    """Let a model attend by another implementation inside, such as ``eager``."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = implementation
    try:
        yield
    finally:
        config._attn_implementation = before
