"""Tiny models whose masks cannot be replaced: sliding windows, flash attention, recurrent layers, and hybrids."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModelForCausalLM
from transformers.masking_utils import flash_attention_mask

from tests.tiny_models import COMMON, tiny_model

SLIDING = ["mistral", "gemma2", "gemma3"]
FLASH = ["llama by flash attention", "gemma3 by flash attention"]
RECURRENT: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "num_experts": 1,
        "num_experts_per_tok": 1,
        "use_mamba_kernels": False,
    },
    "qwen3_next": {
        "head_dim": 16,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "num_experts": 0,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_multiple_of": 16},
}
COPIED = [*SLIDING, *FLASH, *RECURRENT]
"""Models that go on from copies of their own cache."""


def any_model(name: str) -> Any:
    """A model of `COPIED`, or of `tests.tiny_models`."""
    if name not in RECURRENT:
        architecture, _, flash = name.partition(" by ")
        return tiny_model(architecture, attn_implementation="unmasked" if flash else None)
    config = AutoConfig.for_model(name, **{**COMMON, **RECURRENT[name]})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.eval()


def flash_stand_in(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend on a processor as flash attention does: it knows which columns are padding, but has no mask of scores."""
    new, columns, sharing = query.shape[2], key.shape[2], query.shape[1] // key.shape[1]
    distance = torch.arange(columns - new, columns)[:, None] - torch.arange(columns)
    seen = (distance >= 0) & (distance < (sliding_window or columns))
    if attention_mask is not None:
        assert attention_mask.shape == (len(key), columns)
        seen = seen & attention_mask[:, None, None].bool()
    key, value = (states.repeat_interleave(sharing, dim=1) for states in (key, value))
    attended = scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scaling)
    return attended.transpose(1, 2).nan_to_num(), None  # rows of padding see nothing


AttentionInterface.register("unmasked", flash_stand_in)
AttentionMaskInterface.register("unmasked", flash_attention_mask)
