"""Samples and a reference that several tests of training need."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lift_eval.training.samples import Sample
from tests.adapters.helpers import adapted_model, trainable

NOTHING = torch.empty(0, dtype=torch.int64)


def tokens(length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (length,), generator=torch.Generator().manual_seed(seed))


def mixed_samples() -> list[Sample]:
    """Segments of several lengths, questions that begin alike, and one that begins alone."""
    shared = tokens(30, 1)
    return [
        Sample(NOTHING, tokens(31, 2)),
        Sample(NOTHING, tokens(7, 3)),
        Sample(torch.cat([shared, tokens(5, 4)]), tokens(3, 5)),
        Sample(NOTHING, tokens(7, 6)),
        Sample(torch.cat([shared, tokens(11, 7)]), tokens(1, 8)),
        Sample(tokens(20, 9), tokens(6, 10)),
        Sample(torch.cat([shared[:20], tokens(4, 11)]), tokens(9, 12)),
        Sample(shared, tokens(4, 13)),
    ]


def moved_model(kind: str = "lora", architecture: str = "llama", **kwargs: object) -> nn.Module:
    """A model whose adapter has left its initial state, so that every tensor has a gradient."""
    model = adapted_model(kind, architecture, **kwargs)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in trainable(model).values():
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return model


def reference(model: nn.Module, samples: list[Sample]) -> tuple[float, dict[str, Tensor]]:
    """Mean loss over all supervised tokens and its gradient, one sample at a time, all logits, no padding."""
    model.zero_grad()
    supervised = sum(sample.supervised for sample in samples)
    total = 0.0
    for sample in samples:
        ids = torch.cat([sample.context, sample.target])
        logits = model(input_ids=ids[None], use_cache=False).logits[0]
        first = max(len(sample.context), 1)
        loss = nn.functional.cross_entropy(logits[first - 1 : -1], ids[first:], reduction="sum") / supervised
        loss.backward()
        total += loss.item()
    gradients = {name: tensor.grad.clone() for name, tensor in trainable(model).items()}
    model.zero_grad()
    return total, gradients
