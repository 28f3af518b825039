"""A prototype: several documents fine-tuned side by side, their LoRA adapters as one batched product.

The base's linear layers run over the rows of all documents at once. Loss, clipping and the adapters are each
document's own, so the losses are those of one document at a time within rounding.
"""

# ruff: noqa: ANN401 - models and tokenizers of transformers have no types

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn

from lift_eval.models.loading import supports_prefix_sharing
from lift_eval.recipe import TrainingSettings
from lift_eval.training.batching import MicroBatch, micro_batches
from lift_eval.training.finetune import column_cost_of, optimizer_of
from lift_eval.training.samples import Sample


class StackedLora(nn.Module):
    """A linear layer with the LoRA of several documents; rows come document by document, equally many of each.

    Attributes:
        down: Shape (documents, rank, inputs).
        up: Shape (documents, outputs, rank).
        documents: Those whose rows come next, as indices.
    """

    def __init__(self, lora: Linear, count: int) -> None:
        super().__init__()
        self.base, self.scaling = lora.base_layer, lora.scaling["default"]
        self.down, self.up = (
            nn.Parameter(part["default"].weight.detach().repeat(count, 1, 1))
            for part in (lora.lora_A, lora.lora_B)
        )
        self.documents = torch.arange(count)

    def forward(self, x: Tensor) -> Tensor:
        """The base's output and each document's own part."""
        down, up = self.down[self.documents], self.up[self.documents]
        rows = x.reshape(len(self.documents), -1, x.shape[-1])
        low = torch.bmm(torch.bmm(rows, down.mT), up.mT) * self.scaling
        out: Tensor = self.base(x)
        return out + low.view(out.shape)


def train(
    model: Any,
    work: Sequence[Sequence[Sequence[Sample]]],
    settings: TrainingSettings,
    micro_batch_tokens: int,
) -> list[list[float]]:
    """Fine-tune documents side by side.

    Args:
        model: A peft model with a fresh LoRA; it is left as it was.
        work: The samples of each step of each document; equally many steps of all.
        settings: Of the training; the learning rate is constant.
        micro_batch_tokens: Most tokens of one document's micro-batch.

    Returns:
        The losses of each document.
    """
    with _stacked(model, len(work)) as layers:
        parameters = [weight for layer in layers for weight in (layer.down, layer.up)]
        optimizer = optimizer_of(parameters, settings)
        losses = []
        for step in zip(*work, strict=True):
            losses.append(_accumulate(model, layers, step, micro_batch_tokens))
            norms = torch.stack([weight.grad.flatten(1).norm(dim=1) for weight in parameters]).norm(dim=0)
            factors = (settings.max_grad_norm / (norms + 1e-6)).clamp(max=1.0)
            for weight in parameters:
                weight.grad *= factors[:, None, None]
            optimizer.step()
            optimizer.zero_grad()
    return torch.stack(losses).T.tolist()


@contextmanager
def _stacked(model: Any, count: int) -> Iterator[list[StackedLora]]:
    """Put stacked layers in the place of peft's, and those back in the end."""
    places = [
        (parent, name, child)
        for parent in list(model.modules())
        for name, child in parent.named_children()
        if isinstance(child, Linear)
    ]
    layers = [StackedLora(child, count) for _, _, child in places]
    for (parent, name, _), layer in zip(places, layers, strict=True):
        setattr(parent, name, layer)
    try:
        yield layers
    finally:
        for parent, name, child in places:
            setattr(parent, name, child)


def _accumulate(
    model: Any, layers: Sequence[StackedLora], step: Sequence[Sequence[Sample]], micro_batch_tokens: int
) -> Tensor:
    """Gradient of the sum of the documents' mean losses; returns these, shape (documents,)."""
    base = model.get_base_model()
    laid_out = [
        micro_batches(
            samples,
            micro_batch_tokens,
            share_prefixes=supports_prefix_sharing(model),
            column_cost=column_cost_of(model),
        )
        for samples in step
    ]
    supervised = [sum(sample.supervised for sample in samples) for samples in step]
    losses = torch.zeros(len(step))
    for found in _alongside(laid_out):
        documents, batches = zip(*((n, batch) for n, batch in enumerate(found) if batch), strict=True)
        for layer in layers:
            layer.documents = torch.tensor(documents)
        batch = _joined(batches)
        inputs = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask(),
            "position_ids": batch.position_ids,
        }
        hidden = base.model(**inputs, use_cache=False).last_hidden_state.flatten(0, 1)[batch.predicting]
        each = nn.functional.cross_entropy(base.lm_head(hidden), batch.labels, reduction="none")
        parts = each.split([len(one.labels) for one in batches])
        means = torch.stack(
            [part.sum() / supervised[document] for document, part in zip(documents, parts, strict=True)]
        )
        means.sum().backward()
        losses[list(documents)] += means.detach()
    return losses


def _alongside(laid_out: Sequence[Sequence[MicroBatch]]) -> Iterator[Sequence[MicroBatch | None]]:
    """One micro-batch of each document at a time, trees beside trees: padded to like shape they are least."""
    for trees in (True, False):
        yield from zip_longest(
            *([batch for batch in batches if (batch.branches is not None) == trees] for batches in laid_out)
        )


def _joined(batches: Sequence[MicroBatch]) -> MicroBatch:
    """One micro-batch of several, all padded to the same rows and columns."""
    rows = max(batch.input_ids.shape[0] for batch in batches)
    width = max(batch.input_ids.shape[1] for batch in batches)

    def fit(tensor: Tensor, value: int = 0) -> Tensor:
        gap = (0, width - tensor.shape[1], 0, rows - tensor.shape[0])
        return nn.functional.pad(tensor, gap, value=value)

    places = []
    for number, batch in enumerate(batches):
        old = batch.input_ids.shape[1]
        places.append((number * rows + batch.predicting // old) * width + batch.predicting % old)
    ids = torch.cat([fit(batch.input_ids) for batch in batches])
    labels = torch.cat([batch.labels for batch in batches])
    samples = sum(batch.samples for batch in batches)
    if all(batch.branches is None for batch in batches):
        return MicroBatch(ids, torch.cat(places), labels, samples)
    branches, positions = [], []
    for batch in batches:
        plain = torch.arange(batch.input_ids.shape[1]).expand(batch.input_ids.shape)
        branches.append(fit(torch.zeros_like(plain) if batch.branches is None else batch.branches, -1))
        positions.append(fit(plain if batch.position_ids is None else batch.position_ids))
    return MicroBatch(
        ids,
        torch.cat(places),
        labels,
        samples,
        branches=torch.cat(branches),
        position_ids=torch.cat(positions),
    )
