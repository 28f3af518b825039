"""The account: operations that a recipe's work needs, and what the machine can do at most.

Only matrix products count, a multiplication and an addition as two operations. Base weights are frozen, so a
backward pass costs them one product, not two; an adapter's weights cost two.
"""

# ruff: noqa: ANN401 - models and tokenizers of transformers have no types

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from common.setting import Setting, print_table, setting
from torch import nn

from lift_eval.models.loading import base_of
from lift_eval.training.batching import MicroBatch
from lift_eval.training.samples import Sample, by_prefix


@dataclass(frozen=True)
class Shape:
    """What of a model decides the cost of its work.

    Attributes:
        weights: Of the base's matrix products, without embeddings and output embedding.
        head: Weights of the output embedding.
        channels: Layers times channels of the queries.
        cache: Layers times channels of keys and values, in elements per token.
        adapter: Weights of the adapter.
        positions: Columns of a cartridge, which stand in front of every text.
    """

    weights: int
    head: int
    channels: int
    cache: int
    adapter: int = 0
    positions: int = 0

    @classmethod
    def of(cls, model: Any) -> Shape:
        """Read a model of transformers, with or without an adapter; also one on the meta device."""
        base = base_of(model)
        config = base.config.get_text_config()
        head = config.vocab_size * config.hidden_size
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        adapter = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        adapter = adapter if hasattr(model, "get_base_model") else 0
        everything = base.num_parameters(exclude_embeddings=True) - adapter
        tied = bool(getattr(config, "tie_word_embeddings", False))
        return cls(
            everything - (0 if tied else head),
            head,
            config.num_hidden_layers * config.num_attention_heads * head_dim,
            2 * config.num_hidden_layers * config.num_key_value_heads * head_dim,
            adapter,
        )

    def forward(self, tokens: int, looks: float, logits: int) -> float:
        """Operations of a forward pass.

        Args:
            tokens: Tokens.
            looks: Pairs of a token and one it attends to in its text.
            logits: Positions whose logits are computed.
        """
        weights = 2 * (self.weights + self.adapter) * tokens + 2 * self.head * logits
        return weights + self._attention(tokens, looks)

    def _attention(self, tokens: int, looks: float) -> float:
        return 4 * self.channels * (looks + tokens * self.positions)

    def training(self, samples: Iterable[Sample], *, checkpointing: bool = False) -> float:
        """Operations of forward and backward pass over samples, each by itself and without padding.

        A frozen prefix is read once for all samples that have it: count the samples of one step at a time. Behind it
        attention is counted with all its gradients, which the kernels compute whether they are needed or not.
        """
        total = 0.0
        for prefix, group in by_prefix(samples):
            total += self._trained(len(prefix), len(prefix) * (len(prefix) + 1) / 2, 0, True, checkpointing)
            for sample in group:
                looks = sample.tokens * (len(prefix) + (sample.tokens + 1) / 2)
                total += self._trained(sample.tokens, looks, sample.supervised, False, checkpointing)
        return total

    def laid_out(self, batches: Iterable[MicroBatch], *, checkpointing: bool = False) -> float:
        """Operations of the micro-batches of a step: what is shared counts once, and masked columns do not count."""
        total, read = 0.0, set()
        for batch in batches:
            for prefix in batch.prefix.path if batch.prefix else ():
                if id(prefix) not in read:
                    read.add(id(prefix))
                    looks = len(prefix.ids) * (prefix.start + (len(prefix.ids) + 1) / 2)
                    total += self._trained(len(prefix.ids), looks, 0, prefix.frozen, checkpointing)
            mask = batch.attention_mask()
            rows, width = batch.input_ids.shape
            tokens = rows * width if batch.sequence_ids is None else int((batch.sequence_ids >= 0).sum())
            looks = rows * width * (width + 1) / 2 if mask is None else float(mask.sum())
            total += self._trained(tokens, looks, len(batch.labels), False, checkpointing)
        return total

    def _trained(self, tokens: int, looks: float, logits: int, frozen: bool, checkpointing: bool) -> float:
        """Forward and backward pass; the forward pass alone of what is frozen."""
        forward = self.forward(tokens, looks, logits)
        if frozen:
            return forward
        # Gradients of the adapter's weights, and those of attention's second factor.
        more = 2 * self.adapter * tokens + self._attention(tokens, looks)
        return 2 * forward + more + (self.forward(tokens, looks, 0) if checkpointing else 0.0)

    def teaching(self, samples: Iterable[Sample]) -> float:
        """Operations of a teacher, the base alone, that reads each sample once."""
        base, total = replace(self, adapter=0, positions=0), 0.0
        for sample in samples:
            context = sample.context if sample.teacher_context is None else sample.teacher_context
            tokens = len(context) + len(sample.target)
            total += base.forward(tokens, tokens * (tokens + 1) / 2, sample.supervised)
        return total

    def prefill(self, tokens: int) -> float:
        """Operations until the first token of an answer."""
        return self.forward(tokens, tokens * (tokens + 1) / 2, 1)

    def decoding_bytes(self, rows: int, context: int, width: int) -> float:
        """Bytes that one step of decoding must read: weights once, keys and values of each row."""
        return width * (self.weights + self.head + self.adapter + rows * context * self.cache)


def matrix_peak(where: Setting) -> float:
    """Operations per second of a large matrix product, the best of several."""
    device = where.device
    size = 8192 if device.startswith("cuda") else 2048
    left, right = (torch.randn(size, size, device=device, dtype=where.torch_dtype) for _ in range(2))
    return 2 * size**3 / _best(lambda: left @ right, where)


def products_peak(where: Setting, model: Any, rows: int) -> float:
    """Operations per second of the products of a model's own linear layers on so many rows, each the best of several.

    Args:
        where: Device, number format and clock.
        model: With its adapter, whose products are among them.
        rows: Tokens that go through a layer at once.
    """
    shapes = Counter(tuple(layer.weight.shape) for layer in model.modules() if isinstance(layer, nn.Linear))
    operations = spent = 0.0
    for (outputs, inputs), count in shapes.items():
        left, right = (
            torch.randn(*shape, device=where.device, dtype=where.torch_dtype)
            for shape in ((rows, inputs), (outputs, inputs))
        )
        operations += count * 2 * rows * inputs * outputs
        spent += count * _best(partial(nn.functional.linear, left, right), where)
    return operations / spent


def copy_peak(where: Setting) -> float:
    """Bytes per second of a large copy, read and written, the best of several."""
    device = where.device
    source = torch.zeros(2**30 if device.startswith("cuda") else 2**27, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _best(lambda: target.copy_(source), where)


def _best(work: Callable[[], object], where: Setting, repeats: int = 10) -> float:
    """Seconds by the benchmark's own clock: shares of a peak are shares of what the same clock measured."""
    return min([where.seconds(work)[0] for _ in range(repeats)][1:])


def main() -> None:
    """Print the machine's peaks and the account of one token."""
    with setting(str(sys.modules[__name__].__doc__)) as where:
        shape = Shape.of(where.model())
        peak, copies = matrix_peak(where), copy_peak(where)
        print_table(
            "Peaks of the machine, measured",
            ["", "per second"],
            [
                ["matrix product", f"{peak / 1e9:.1f} G operations"],
                ["copy, read and written", f"{copies / 1e9:.1f} GB"],
            ],
        )
        print_table(
            "Account of the model, in million operations per token of a 6,200-token sample",
            ["", "forward"],
            [
                ["weights", f"{2 * shape.weights / 1e6:.2f}"],
                ["attention, causal", f"{4 * shape.channels * 6200 / 2 / 1e6:.2f}"],
                ["output embedding, where logits are needed", f"{2 * shape.head / 1e6:.2f}"],
            ],
        )


if __name__ == "__main__":
    main()
