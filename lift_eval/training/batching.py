"""From samples to forward passes.

A step's samples are laid out in micro-batches of a bounded number of tokens. How they are split changes nothing but
rounding: the loss of a step is the sum over its supervised tokens, divided by their number.

Two layouts. *Rows*: samples of like length side by side, padded on the right. *Tree*: samples that begin with the
same tokens (the questions of one document) in one row, the common prefix once, each rest behind it and blind to the
others; positions and mask make every token see just what it would see alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lift_eval.training.samples import Sample

IGNORED = -100
"""Label of a position that the loss does not count."""

MIN_SHARED_TOKENS = 16
"""A shorter common prefix is not worth a mask."""


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass of training needs.

    Attributes:
        input_ids: Shape (rows, width), int64.
        attention_mask: In a tree shape (1, 1, width, width), bool, true where the row's token may see the column's.
            None for rows: their padding stands on the right, where causal attention never looks, and without a mask
            attention is faster.
        positions: Columns whose hidden state predicts a supervised token in any row, shape (k,), int64, ascending.
        labels: Tokens to predict at these columns, IGNORED elsewhere, shape (rows, k), int64.
        position_ids: Shape (rows, width), int64, where they are not simply 0, 1, 2, ... (a tree), else None.
    """

    input_ids: Tensor
    positions: Tensor
    labels: Tensor
    attention_mask: Tensor | None = None
    position_ids: Tensor | None = None

    def to(self, device: torch.device) -> MicroBatch:
        """The same on another device."""
        return MicroBatch(
            self.input_ids.to(device),
            self.positions.to(device),
            self.labels.to(device),
            None if self.attention_mask is None else self.attention_mask.to(device),
            None if self.position_ids is None else self.position_ids.to(device),
        )


def micro_batches(samples: Sequence[Sample], max_tokens: int, *, share_prefixes: bool) -> list[MicroBatch]:
    """Lay out the samples of one optimizer step.

    Args:
        samples: The samples; those without a supervised token are left out.
        max_tokens: Most tokens of a micro-batch, padding included; a longer sample goes alone.
        share_prefixes: Whether the model can take the mask of a tree.

    Returns:
        Micro-batches that hold each sample once.
    """
    rest = [sample for sample in samples if sample.supervised]
    batches = []
    if share_prefixes:
        trees, rest = _find_trees(rest, max_tokens)
        batches += [_tree(tree) for tree in trees]
    # Neighbours of like shape waste least padding, and of like context predict at the same columns.
    rest.sort(key=lambda sample: (sample.tokens, len(sample.context)))
    row: list[Sample] = []
    for sample in rest:
        if row and (len(row) + 1) * sample.tokens > max_tokens:
            batches.append(_rows(row))
            row = []
        row.append(sample)
    if row:
        batches.append(_rows(row))
    return batches


def _predicted(sample: Sample, offset: int = 0) -> Tensor:
    """Columns whose hidden states predict the sample's supervised tokens."""
    return torch.arange(sample.tokens - sample.supervised - 1, sample.tokens - 1) + offset


def _rows(samples: Sequence[Sample]) -> MicroBatch:
    width = max(sample.tokens for sample in samples)
    input_ids = torch.zeros(len(samples), width, dtype=torch.int64)
    labels = torch.full_like(input_ids, IGNORED)
    for row, sample in enumerate(samples):
        ids = torch.cat([sample.context, sample.target])
        input_ids[row, : len(ids)] = ids
        labels[row, _predicted(sample)] = sample.target[len(sample.target) - sample.supervised :]
    positions = (labels != IGNORED).any(dim=0).nonzero().flatten()
    return MicroBatch(input_ids, positions, labels[:, positions].contiguous())


def _find_trees(samples: list[Sample], max_tokens: int) -> tuple[list[list[Sample]], list[Sample]]:
    """Group samples whose contexts begin alike; the rest stays."""
    groups: dict[bytes, list[Sample]] = {}
    rest = []
    for sample in samples:
        if len(sample.context) < MIN_SHARED_TOKENS:
            rest.append(sample)
        else:
            groups.setdefault(sample.context[:MIN_SHARED_TOKENS].numpy().tobytes(), []).append(sample)
    trees = []
    for group in groups.values():
        group.sort(key=lambda sample: sample.context.tolist())
        tree: list[Sample] = []
        for sample in group:
            if tree and _tree_tokens([*tree, sample]) > max_tokens:
                trees.append(tree)
                tree = []
            tree.append(sample)
        trees.append(tree)
    rest += [tree[0] for tree in trees if len(tree) == 1]
    return [tree for tree in trees if len(tree) > 1], rest


def _shared_tokens(samples: Sequence[Sample]) -> int:
    """Length of the common prefix of the contexts, short of their last token: it must predict in each branch."""
    shortest = min(len(sample.context) for sample in samples) - 1
    first = samples[0].context[:shortest]
    for sample in samples[1:]:
        differs = (sample.context[: len(first)] != first).nonzero()
        if len(differs):
            first = first[: int(differs[0])]
    return len(first)


def _tree_tokens(samples: Sequence[Sample]) -> int:
    shared = _shared_tokens(samples)
    return shared + sum(sample.tokens - shared for sample in samples)


def _tree(samples: Sequence[Sample]) -> MicroBatch:
    shared = _shared_tokens(samples)
    branches = [torch.cat([sample.context, sample.target])[shared:] for sample in samples]
    input_ids = torch.cat([samples[0].context[:shared], *branches])
    branch = torch.cat([torch.full((len(ids),), number) for number, ids in enumerate(branches, start=1)])
    branch = torch.cat([torch.zeros(shared, dtype=torch.int64), branch])
    position_ids = torch.cat([torch.arange(shared), *(torch.arange(len(ids)) + shared for ids in branches)])
    causal = torch.ones(len(input_ids), len(input_ids), dtype=torch.bool).tril()
    mask = causal & ((branch[:, None] == branch[None, :]) | (branch[None, :] == 0))
    labels = torch.full_like(input_ids, IGNORED)
    start = shared
    for sample, ids in zip(samples, branches, strict=True):
        labels[_predicted(sample, start - shared)] = sample.target[len(sample.target) - sample.supervised :]
        start += len(ids)
    positions = (labels != IGNORED).nonzero().flatten()
    return MicroBatch(
        input_ids[None], positions, labels[positions][None].contiguous(), mask[None, None], position_ids[None]
    )
