"""The bundled model's shape and its start: a small Llama that copies from the first step on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lift_eval.tiny import prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LOOK_BACK = (1, 2, 3, 4, 5, 6)
"""How many tokens back each of the first heads of layer 0 looks at the start."""


def config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """A Llama of four layers for the tokenizer."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=prompts.WINDOW,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@torch.no_grad()
def new(config_: LlamaConfig, seed: int) -> LlamaForCausalLM:
    """Make the model with a start from which copying is learned early.

    Keys equal queries, so that heads look at equal tokens; the output projection is the transpose of the value
    projection, so that what is looked at is repeated; MLPs begin at zero; most heads of the first layer look
    one to six tokens back, so that a fact's value knows what stands before it.
    """
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config_)
    model.model.embed_tokens.weight.normal_(0, 0.03)
    if config_.pad_token_id is not None:
        model.model.embed_tokens.weight[config_.pad_token_id].zero_()
    width = config_.hidden_size
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        torch.nn.init.orthogonal_(attention.q_proj.weight, gain=0.8)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        torch.nn.init.orthogonal_(attention.v_proj.weight, gain=0.18)
        attention.o_proj.weight.copy_(attention.v_proj.weight.T)
        for projection in (mlp.gate_proj, mlp.up_proj):
            projection.weight.normal_(0, 0.5 / math.sqrt(width))
        mlp.down_proj.weight.zero_()
    _look_back(model, config_)
    return model


def _look_back(model: LlamaForCausalLM, config_: LlamaConfig) -> None:
    """Set the first heads of layer 0 to look a few tokens back, through a constant part of the embeddings."""
    embeddings = model.model.embed_tokens.weight
    constant = torch.nn.functional.normalize(torch.randn(embeddings.size(1)), dim=0)
    size = embeddings.norm(dim=1).mean()
    embeddings += 0.5 * size * constant
    dim = config_.hidden_size // config_.num_attention_heads
    half = dim // 2
    angles = 10000.0 ** (-torch.arange(half) / half)
    used = angles > 0.02
    strength = 3.0
    query = torch.zeros(dim)
    query[:half][used] = strength
    attention = model.model.layers[0].self_attn
    # The norm scales an embedding to length sqrt(width); the constant is about 0.45 of its length.
    scale = 1 / (0.45 * math.sqrt(config_.hidden_size))
    for head, back in enumerate(LOOK_BACK):
        key = torch.zeros(dim)  # the query turned by as many positions
        key[:half][used] = strength * torch.cos(back * angles[used])
        key[half:][used] = strength * torch.sin(back * angles[used])
        rows = slice(head * dim, (head + 1) * dim)
        attention.q_proj.weight[rows] = scale * torch.outer(query, constant)
        attention.k_proj.weight[rows] = scale * torch.outer(key, constant)
