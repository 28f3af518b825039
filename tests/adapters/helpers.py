"""What several tests of adapters need."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lift_eval.adapters.attach import attach
from lift_eval.adapters.state import trainable
from lift_eval.models.loading import autocast
from lift_eval.recipe import Adapter, GatedMemorySettings, LoraSettings, PissaSettings, WeightsSettings
from tests.tiny_models import tiny_model

ON_QUANTIZED_BASE = ("lora", "pissa", "gated_memory")
ADAPTERS = (*ON_QUANTIZED_BASE, "weights")


def settings(kind: str, architecture: str = "llama") -> Adapter:
    """Small settings of an adapter that fit the architecture."""
    targets = ("qkv_proj", "o_proj") if architecture == "phi3" else ("q_proj", "v_proj", "o_proj")
    return {
        "lora": LoraSettings(rank=4, alpha=8, targets=targets),
        "dora": LoraSettings(rank=4, alpha=8, targets=targets, dora=True),
        "pissa": PissaSettings(rank=4, alpha=4, targets=targets),
        "gated_memory": GatedMemorySettings(lm_head_rank=2),
        "weights": WeightsSettings(targets=("o_proj",), layers=(0.5, 1.0)),
    }[kind]


def adapted_model(kind: str, architecture: str = "llama", *, seed: int = 0, **model_kwargs):
    return attach(tiny_model(architecture, **model_kwargs), settings(kind, architecture), seed=seed)


def tokens(batch: int = 2, length: int = 24, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (batch, length), generator=torch.Generator().manual_seed(seed))


def train(model: nn.Module, inputs: Tensor, steps: int = 2, learning_rate: float = 1e-2) -> list[float]:
    """Losses of a few optimizer steps without weight decay, which would move even tensors without a gradient."""
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=learning_rate, weight_decay=0.0)
    losses = []
    model.train()
    for _ in range(steps):
        with autocast(model.device, model.dtype):
            loss = model(input_ids=inputs, labels=inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


@torch.no_grad()
def logits(model: nn.Module, inputs: Tensor) -> Tensor:
    return model(input_ids=inputs).logits


@torch.no_grad()
def open_gates(model: nn.Module, seed: int = 0) -> None:
    """Give a gated memory weights so large that its gates differ widely and its memory matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.named_parameters():
        if "gated_memory" in name:
            scale = 4.0 if "gate_out" in name else 0.5
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)
