"""From samples to forward passes.

A step's samples are laid out in micro-batches of a bounded number of tokens. How they are split changes nothing but
rounding: the loss of a step is the sum over its supervised tokens, divided by their number.

A row of a micro-batch holds one sample, or a *tree*: samples that begin with the same tokens (the questions of one
document), the common prefix once, each rest behind it and blind to the others; positions and mask make every token
see just what it would see alone. Rows of like length stand side by side, padded on the right.

Samples behind a frozen prefix are such branches too, of a trunk that is not in the row: its keys and values are there
already (`prefixes`), and the row holds what is the samples' own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from lift_eval.training.samples import Sample, by_prefix

MIN_SHARED_TOKENS = 16
"""A shorter common prefix is not worth a mask."""

FREE_PADDING = 64
"""Tokens of padding that cost less than one more forward pass."""

MOST_PADDING = 0.1
"""Most padding of a micro-batch beyond that, as a share of its tokens."""

_PADDING = -1


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass of training needs.

    Attributes:
        input_ids: Shape (rows, width), int64.
        predicting: Places whose hidden states predict supervised tokens, as indices into the flattened ids, shape
            (n,), int64, ascending.
        labels: The tokens to predict there, shape (n,), int64.
        samples: How many samples the rows hold.
        branches: For rows that hold trees, each token's branch, shape (rows, width), int64: 0 for the common prefix,
            -1 for padding. None for rows of single samples: their padding stands where causal attention never looks,
            and without a mask attention is faster.
        position_ids: Shape (rows, width), int64, where they are not simply 0, 1, 2, ... (trees), else None.
        prefix: The frozen prefix that every row stands behind, shape (p,), int64; none without.
    """

    input_ids: Tensor
    predicting: Tensor
    labels: Tensor
    samples: int
    branches: Tensor | None = None
    position_ids: Tensor | None = None
    prefix: Tensor | None = None

    def to(self, device: torch.device) -> MicroBatch:
        """The same on another device; a GPU goes on with earlier work meanwhile."""

        def moved(tensor: Tensor) -> Tensor:
            if device.type == "cuda":
                return tensor.pin_memory().to(device, non_blocking=True)
            return tensor.to(device)

        return MicroBatch(
            moved(self.input_ids),
            moved(self.predicting),
            moved(self.labels),
            self.samples,
            None if self.branches is None else moved(self.branches),
            None if self.position_ids is None else moved(self.position_ids),
            None if self.prefix is None else moved(self.prefix),
        )

    def attention_mask(self) -> Tensor | None:
        """Which token may see which, shape (rows, 1, width, p + width), bool; none where it is simply causal."""
        if self.branches is None:
            return None
        seeing, seen = self.branches[:, :, None], self.branches[:, None, :]
        width = self.branches.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool, device=seen.device).tril()
        # Padding sees padding, since a softmax over nothing has no value.
        mask = (causal & ((seeing == seen) | ((seen == 0) & (seeing != _PADDING))))[:, None]
        return mask if self.prefix is None else pad(mask, (len(self.prefix), 0), value=True)


@dataclass(frozen=True)
class _Row:
    """One row before padding: shapes as in `MicroBatch`, each without the first dimension."""

    input_ids: Tensor
    predicting: Tensor
    labels: Tensor
    samples: int = 1
    branches: Tensor | None = None
    position_ids: Tensor | None = None


def micro_batches(
    samples: Sequence[Sample], max_tokens: int, *, share_prefixes: bool, column_cost: float = 0.0
) -> list[MicroBatch]:
    """Lay out the samples of one optimizer step.

    Args:
        samples: The samples; those without a supervised token are left out.
        max_tokens: Most tokens of a micro-batch, padding included; a longer sample goes alone.
        share_prefixes: Whether the model can take the mask of a tree.
        column_cost: What attention pays for a token to look at one more column, in units of what the token costs
            otherwise (`column_cost` of a model). The higher, the narrower are trees.

    Returns:
        Micro-batches that hold each sample once: those behind the same prefix together, then the others, each the
        largest first, so that what does not fit in memory is known early.
    """
    groups = by_prefix(sample for sample in samples if sample.supervised)
    frozen = [
        batch for prefix, group in groups if len(prefix) for batch in _behind(prefix, group, max_tokens)
    ]
    rest = [sample for prefix, group in groups if not len(prefix) for sample in group]
    trees = list(_trees(rest, max_tokens, column_cost)) if share_prefixes else [[sample] for sample in rest]
    plain = [_plain(tree[0]) for tree in trees if len(tree) == 1]
    branched = [_tree(tree) for tree in trees if len(tree) > 1]
    batches = [_stack(rows) for kind in (plain, branched) for rows in _side_by_side(kind, max_tokens)]
    return [*frozen, *sorted(batches, key=lambda batch: -batch.input_ids.numel())]


def _side_by_side(rows: list[_Row], max_tokens: int) -> Iterator[list[_Row]]:
    """Gather rows of like length, as long as padding them costs less than one more forward pass."""
    gathered: list[_Row] = []
    for row in sorted(rows, key=lambda row: len(row.input_ids)):
        width = len(row.input_ids)
        padding = sum(width - len(other.input_ids) for other in gathered)
        too_many = (len(gathered) + 1) * width > max_tokens
        if gathered and (too_many or padding > max(FREE_PADDING, MOST_PADDING * len(gathered) * width)):
            yield gathered
            gathered = []
        gathered.append(row)
    if gathered:
        yield gathered


def _stack(rows: Sequence[_Row], prefix: Tensor | None = None) -> MicroBatch:
    input_ids = pad_sequence([row.input_ids for row in rows], batch_first=True)
    starts = range(0, input_ids.numel(), input_ids.shape[1])
    branches = [row.branches for row in rows if row.branches is not None]
    positions = [row.position_ids for row in rows if row.position_ids is not None]
    return MicroBatch(
        input_ids,
        torch.cat([row.predicting + start for row, start in zip(rows, starts, strict=True)]),
        torch.cat([row.labels for row in rows]),
        sum(row.samples for row in rows),
        pad_sequence(branches, batch_first=True, padding_value=_PADDING) if branches else None,
        pad_sequence(positions, batch_first=True) if positions else None,
        prefix,
    )


def _predicting(sample: Sample) -> Tensor:
    """Places of the sample whose hidden states predict its supervised tokens."""
    return torch.arange(sample.tokens - sample.supervised - 1, sample.tokens - 1)


def _labels(sample: Sample) -> Tensor:
    return sample.target[len(sample.target) - sample.supervised :]


def _plain(sample: Sample) -> _Row:
    return _Row(torch.cat([sample.context, sample.target]), _predicting(sample), _labels(sample))


# --- trees -------------------------------------------------------------------------------------------------------


def _trees(samples: list[Sample], max_tokens: int, column_cost: float) -> Iterator[list[Sample]]:
    """Group samples whose contexts begin alike; a sample that shares too little is a tree of one.

    In the order of their contexts each sample joins its neighbour's tree, if that is less work than a row of its own
    and the tree does not grow too wide: its attention looks at all columns, masked or not.
    """
    tree: list[Sample] = []
    shared = 0
    for sample in sorted(samples, key=lambda sample: sample.context.tolist()):
        if tree:
            common = _common(tree[-1], sample) if len(tree) == 1 else min(shared, _common(tree[-1], sample))
            wide = common + sum(one.tokens - common for one in (*tree, sample))
            if common >= MIN_SHARED_TOKENS and wide <= min(max_tokens, _widest(common, column_cost)):
                apart = _work(tree, shared, column_cost) + _work([sample], 0, column_cost)
                if _work([*tree, sample], common, column_cost) < apart:
                    tree.append(sample)
                    shared = common
                    continue
            yield tree
        tree, shared = [sample], 0
    if tree:
        yield tree


def _common(first: Sample, second: Sample) -> int:
    """Tokens that two contexts begin with, short of the last token of each: it must predict in its own branch."""
    length = max(min(len(first.context), len(second.context)) - 1, 0)
    differs = (first.context[:length] != second.context[:length]).nonzero()
    return int(differs[0]) if len(differs) else length


def _work(tree: Sequence[Sample], shared: int, column_cost: float) -> float:
    """Cost of a tree in tokens' worth; causal attention without a mask skips half of the columns."""
    tokens = shared + sum(sample.tokens - shared for sample in tree)
    return tokens * (1 + column_cost * tokens * (1 if len(tree) > 1 else 0.5))


def _widest(shared: int, column_cost: float) -> float:
    """Width at which a tree of short branches costs least per token of its branches.

    The minimum over w of ``w * (1 + c * w) / (w - p)``, for a prefix of p tokens and a column cost of c.
    """
    return shared + math.sqrt(shared**2 + shared / column_cost) if column_cost else math.inf


def _tree(samples: Sequence[Sample]) -> _Row:
    return _branches(samples, min(_common(samples[0], sample) for sample in samples[1:]))


def _branches(samples: Sequence[Sample], shared: int) -> _Row:
    rests = [torch.cat([sample.context, sample.target])[shared:] for sample in samples]
    parts = [samples[0].context[:shared], *rests]
    # A branch's places move by the lengths of the branches before it.
    offsets = [sum(len(rest) for rest in rests[:number]) for number in range(len(rests))]
    return _Row(
        torch.cat(parts),
        torch.cat([_predicting(sample) + offset for sample, offset in zip(samples, offsets, strict=True)]),
        torch.cat([_labels(sample) for sample in samples]),
        len(samples),
        torch.cat([torch.full((len(part),), number) for number, part in enumerate(parts)]),
        torch.cat([torch.arange(shared), *(torch.arange(len(rest)) + shared for rest in rests)]),
    )


# --- behind a frozen prefix --------------------------------------------------------------------------------------


def _behind(prefix: Tensor, samples: Sequence[Sample], max_tokens: int) -> list[MicroBatch]:
    """Lay out samples behind the same prefix.

    Short ones share a row, as long as it is no longer than the prefix: each row copies the prefix's keys and values,
    and each token pays for the columns of its neighbours, so either costs at most as much as looking at the prefix.
    """
    room = min(max(len(prefix), 1), max_tokens)
    rows: list[list[Sample]] = []
    for sample in sorted(samples, key=lambda sample: sample.tokens):
        if rows and sum(other.tokens for other in rows[-1]) + sample.tokens <= room:
            rows[-1].append(sample)
        else:
            rows.append([sample])
    laid = [_moved(_branches(row, 0), len(prefix)) for row in rows]
    batches = [_stack(side, prefix) for side in _side_by_side(laid, max_tokens)]
    return sorted(batches, key=lambda batch: -batch.input_ids.numel())


def _moved(row: _Row, by: int) -> _Row:
    assert row.position_ids is not None
    return replace(row, position_ids=row.position_ids + by)
