"""The floor: operations that any exact implementation of some optimizer steps needs.

Exact means the same losses and gradients, but for rounding, on the same samples. As in the account, only matrix
products count. What is counted in a step:

- Tokens that have the same tokens before them are read once, whatever samples they belong to. The last token of a
  sample is not read. Weights change with each step, so nothing is carried from one step to the next.
- A token attends to itself and the tokens before it. Masked columns do not count.
- In the last layer every token has keys and values. Only tokens from which a supervised one is predicted have a query,
  the output projection, the feed-forward layer and logits.
- The base is frozen, so its weights take one product in the backward pass, for the gradient of their inputs; weights of
  the adapter take two. No gradient goes through the inputs of the first layer's queries, keys and values, since
  nothing before them is trained.
- Attention takes two products in the forward pass and four in the backward pass. Nothing is computed again.

Models are Llama's kind of decoder with a LoRA.
"""

# ruff: noqa: ANN401 - models of transformers have no types

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from account import Shape

from lift_eval.models.loading import base_of
from lift_eval.training.samples import Sample

KEYS_AND_VALUES = re.compile(r"\.[kv]_proj\.")
READS_EMBEDDINGS = re.compile(r"\.layers\.0\..*\.[qkv]_proj\.(?!lora_B)")
"""Weights whose input is the first layer's own."""


@dataclass(frozen=True)
class Reading:
    """What of a step must be read at least.

    Attributes:
        tokens: Different ones: those with the same tokens before them are one.
        looks: Pairs of a token and one that it attends to.
        predicting: Tokens from which a supervised one is predicted.
        predicting_looks: Their part of the looks.
    """

    tokens: int
    looks: int
    predicting: int
    predicting_looks: int

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Reading:
        """Read the samples of one step, none of which has a frozen prefix."""
        texts = sorted(
            (torch.cat([sample.context, sample.target])[:-1].tolist(), max(len(sample.context) - 1, 0))
            for sample in samples
        )
        tokens = looks = predicting = predicting_looks = 0
        before: list[int] = []
        for text, first in texts:
            new = _common(before, text)
            tokens += len(text) - new
            looks += _looks(new, len(text))
            predicting += max(len(text) - max(new, first), 0)
            predicting_looks += _looks(max(new, first), len(text))
            before = text
        return cls(tokens, looks, predicting, predicting_looks)


def floor(model: Any, steps: Iterable[Sequence[Sample]]) -> float:
    """Operations that the steps need at least, with a model that has its adapter."""
    shape, base = Shape.of(model), base_of(model)
    layers = base.config.get_text_config().num_hidden_layers
    last = f".layers.{layers - 1}."
    weights = {
        name: weight for name, weight in base.named_parameters() if ".layers." in name and weight.ndim == 2
    }
    seldom = {name for name in weights if last in name and not KEYS_AND_VALUES.search(name)}
    total = 0.0
    for step in steps:
        read = Reading.of(step)

        def products(names: Iterable[str], read: Reading = read) -> float:
            return sum(
                2.0 * weights[name].numel() * (read.predicting if name in seldom else read.tokens)
                for name in names
            )

        total += products(weights)  # forward
        total += products(
            name for name in weights if not READS_EMBEDDINGS.search(name)
        )  # gradients of inputs
        total += products(name for name, weight in weights.items() if weight.requires_grad)  # and of weights
        total += 12 * shape.channels / layers * ((layers - 1) * read.looks + read.predicting_looks)
        total += 2 * 2 * shape.head * read.predicting
    return total


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens with which both begin."""
    return next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _looks(start: int, stop: int) -> int:
    """Pairs of the tokens at places from start to stop and those that they attend to."""
    return sum(range(start + 1, stop + 1))
