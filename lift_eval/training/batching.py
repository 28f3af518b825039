"""From samples to forward passes.

A step's samples are laid out in micro-batches of a bounded number of tokens. How they are split changes nothing but
rounding: the loss of a step is the sum over its supervised tokens, divided by their number.

A row of a micro-batch holds one sample, or a *tree*: samples that begin with the same tokens (the questions of one
document), the common prefix once, each rest behind it and blind to the others; positions and mask make every token
see just what it would see alone. Rows of like length stand side by side, padded on the right.

Rows may also stand behind a *trunk*, whose tokens they do not hold: its keys and values are there already (`prefixes`),
and a row holds what is the samples' own. What is a tree, what a trunk, is decided in `sharing`. A frozen prefix is a
trunk without a gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from lift_eval.training.samples import Sample, by_prefix
from lift_eval.training.shared_prefixes import (
    FREE_PADDING,
    Group,
    Trunk,
    common_tokens,
    pack,
    room_behind,
    share,
)

MOST_PADDING = 0.1
"""Most padding of a micro-batch beyond `FREE_PADDING`, as a share of its tokens."""

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
        trunk: What every row stands behind; none for whole samples.
    """

    input_ids: Tensor
    predicting: Tensor
    labels: Tensor
    samples: int
    branches: Tensor | None = None
    position_ids: Tensor | None = None
    trunk: Trunk | None = None

    @property
    def tokens(self) -> int:
        """Tokens whose activations are kept at a time: of the rows, padding included, and of trunks with a gradient."""
        before = 0 if self.trunk is None or self.trunk.frozen else self.trunk.end
        return self.input_ids.numel() + before

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
            self.trunk,
        )

    def attention_mask(self) -> Tensor | None:
        """Which token may see which, shape (rows, 1, width, trunk + width), bool; none where it is simply causal."""
        if self.branches is None:
            return None
        seeing, seen = self.branches[:, :, None], self.branches[:, None, :]
        width = self.branches.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool, device=seen.device).tril()
        # Padding sees padding, since a softmax over nothing has no value.
        mask = (causal & ((seeing == seen) | ((seen == 0) & (seeing != _PADDING))))[:, None]
        return mask if self.trunk is None else pad(mask, (self.trunk.end, 0), value=True)


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
    samples: Sequence[Sample],
    max_tokens: int,
    *,
    share_prefixes: bool,
    trunks: bool = False,
    column_cost: float = 0.0,
) -> list[MicroBatch]:
    """Lay out the samples of one optimizer step.

    Args:
        samples: The samples; those without a supervised token are left out.
        max_tokens: Most tokens of a micro-batch, padding and trunks with a gradient included; a longer sample goes
            alone, or what samples of no more tokens in all have in common.
        share_prefixes: Whether the model can take the mask of a tree.
        trunks: Whether the model, which takes such masks, can also look at a trunk with a gradient.
        column_cost: What attention pays for a token to look at one more column, in units of what the token costs
            otherwise (`column_cost_of` a model). The higher, the narrower are trees.

    Returns:
        Micro-batches that hold each sample once; those behind the same trunk come in a run. Otherwise the largest come
        first, so that what does not fit in memory is known early.
    """
    groups: list[Group] = []
    for prefix, alike in by_prefix(sample for sample in samples if sample.supervised):
        if len(prefix):
            trunk = Trunk(prefix, frozen=True)
            groups.append(Group(trunk, pack(trunk, alike, max_tokens)))
        elif share_prefixes:
            groups += share(alike, max_tokens, column_cost, trunks=trunks)
        else:
            groups.append(Group(None, [[sample] for sample in alike]))
    return list(chain.from_iterable(sorted(_runs(groups, max_tokens), key=_first)))


def row_of(trunk: Trunk) -> MicroBatch:
    """A trunk as the row that is read; it has nothing to predict."""
    nothing = torch.empty(0, dtype=torch.int64)
    ids = trunk.ids[None]
    if trunk.behind is None:
        return MicroBatch(ids, nothing, nothing, 0)
    positions = torch.arange(trunk.start, trunk.end)[None]
    return MicroBatch(ids, nothing, nothing, 0, torch.zeros_like(ids), positions, trunk.behind)


def _runs(groups: Iterable[Group], max_tokens: int) -> Iterator[list[MicroBatch]]:
    """Micro-batches that come one after the other, since they stand behind the same trunk."""
    for trunk, alike in groupby(
        groups, key=lambda group: None if group.trunk is None else group.trunk.path[0]
    ):
        batches = [batch for group in alike for batch in _batches(group, max_tokens)]
        yield from ([batch] for batch in batches) if trunk is None else [batches]


def _first(run: Iterable[MicroBatch]) -> int:
    return -max(batch.tokens for batch in run)


def _batches(group: Group, max_tokens: int) -> list[MicroBatch]:
    trunk = group.trunk
    if trunk is None:
        room = max_tokens
        plain = [_plain(row[0]) for row in group.rows if len(row) == 1]
        kinds = [plain, [_tree(row) for row in group.rows if len(row) > 1]]
    else:
        longest = max(sample.tokens for row in group.rows for sample in row)
        room = room_behind(trunk, longest, max_tokens)
        kinds = [[_moved(_branches(row, 0), trunk.end) for row in group.rows]]
    batches = [_stack(rows, trunk) for kind in kinds for rows in _side_by_side(kind, room)]
    return sorted(batches, key=lambda batch: -batch.tokens)


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


def _stack(rows: Sequence[_Row], trunk: Trunk | None = None) -> MicroBatch:
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
        trunk,
    )


def _predicting(sample: Sample) -> Tensor:
    """Places of the sample whose hidden states predict its supervised tokens."""
    return torch.arange(sample.tokens - sample.supervised - 1, sample.tokens - 1)


def _labels(sample: Sample) -> Tensor:
    return sample.target[len(sample.target) - sample.supervised :]


def _plain(sample: Sample) -> _Row:
    return _Row(torch.cat([sample.context, sample.target]), _predicting(sample), _labels(sample))


def _tree(samples: Sequence[Sample]) -> _Row:
    return _branches(samples, min(common_tokens(samples[0], sample) for sample in samples[1:]))


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


def _moved(row: _Row, by: int) -> _Row:
    assert row.position_ids is not None
    return replace(row, position_ids=row.position_ids + by)
