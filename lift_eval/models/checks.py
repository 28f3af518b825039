"""What a loaded model must be like, found out before anything is trained on it."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import nn

from lift_eval.errors import CheckpointError
from lift_eval.models.loading import base_of

IGNORES_MASK = {"rwkv"}
"""Model types whose forward pass has an attention mask among its arguments and makes no use of it."""


def check_model(model: Any, tokenizer: Any) -> None:  # noqa: ANN401
    """Refuse a model that would compute nonsense, or fail at its first text.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.

    Raises:
        CheckpointError: If a weight is not finite, the model cannot leave out padding, or its tokenizer has tokens
            that it does not know.
    """
    _check_weights(model)
    _check_padding(model)
    _check_vocabulary(model, tokenizer)


def unknown_tokens(model: Any, tokenizer: Any) -> list[str]:  # noqa: ANN401
    """Tokens of a tokenizer that its model has no embedding for, e.g. that of images in a model for text alone."""
    rows = model.get_input_embeddings().weight.shape[0]
    return [token for token, number in tokenizer.get_vocab().items() if number >= rows]


def _check_weights(model: nn.Module) -> None:
    for name, weight in model.named_parameters():
        whole = weight.dtype in (torch.float32, torch.bfloat16, torch.float16) and not weight.is_meta
        if whole and weight.numel() and not all(map(math.isfinite, torch.aminmax(weight.detach()))):
            raise CheckpointError(
                f"every weight of {type(base_of(model)).__name__} must be finite, but {name} holds NaN or infinity; "
                "download the checkpoint again, or use another"
            )


def _check_padding(model: Any) -> None:  # noqa: ANN401
    base = base_of(model)
    takes_mask = "attention_mask" in inspect.signature(base.forward).parameters
    if not takes_mask or base.config.model_type in IGNORES_MASK:
        raise CheckpointError(
            f"the model must take an attention mask, or padding would change its answers, but {type(base).__name__} "
            "takes none; use another model"
        )


def _check_vocabulary(model: Any, tokenizer: Any) -> None:  # noqa: ANN401
    unknown = unknown_tokens(model, tokenizer)
    special = {added.content for added in tokenizer.added_tokens_decoder.values() if added.special}
    used = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token}
    template = str(tokenizer.chat_template or "")
    # A tokenizer may have special tokens for other models of its family; none of the texts here holds them.
    needed = [token for token in unknown if token not in special or token in used or token in template]
    if needed:
        rows = model.get_input_embeddings().weight.shape[0]
        raise CheckpointError(
            f"the tokenizer must fit the model, which has embeddings for {rows} tokens, but {len(needed)} of its "
            f"tokens have none (such as {needed[0]!r}); use the checkpoint's own tokenizer, or resize the embeddings"
        )
