"""From samples to forward passes.

A step's samples are laid out in micro-batches of a bounded number of tokens. How they are split changes nothing but
rounding: the loss of a step is the sum over its supervised tokens, divided by their number.

A row of a micro-batch holds one sample, or it is *packed*: samples that begin with the same tokens (the questions of
one document) share the row. It holds their common beginning once and the rest of each behind it; positions and mask let
every token see just what it would see alone. Rows of similar length stand side by side, padded on the right.

Rows may also follow a *cached prefix*, whose tokens they do not hold: its keys and values are in a cache
(`prefix_cache`), and a row holds only what is the samples' own. `shared_prefixes` decides which samples share a row and
which a cached prefix. A frozen prefix gets no gradient.

The rows of several documents may stand side by side too, each with an adapter of its own; a row holds samples of one
document.
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
    PrefixGroup,
    SharedPrefix,
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
        samples: What the rows hold, in the order of the labels.
        sequence_ids: In packed rows, the sample of each token, from 1, shape (rows, width), int64; 0 for the common
            beginning, -1 for padding. None for rows of single samples: their padding stands where causal attention
            never looks, and without a mask attention is faster.
        position_ids: Shape (rows, width), int64, where they are not simply 0, 1, 2, ... (packed rows), else None.
        prefix: The prefix before every row. None means whole samples.
        documents: The document of each row, from 0, shape (rows,), int64. None means that all are of one document.
    """

    input_ids: Tensor
    predicting: Tensor
    labels: Tensor
    samples: tuple[Sample, ...]
    sequence_ids: Tensor | None = None
    position_ids: Tensor | None = None
    prefix: SharedPrefix | None = None
    documents: Tensor | None = None

    @property
    def tokens(self) -> int:
        """Tokens whose activations are kept at a time: of the rows with their padding, and of trained prefixes."""
        before = 0 if self.prefix is None or self.prefix.frozen else self.prefix.end
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
            None if self.sequence_ids is None else moved(self.sequence_ids),
            None if self.position_ids is None else moved(self.position_ids),
            self.prefix,
            None if self.documents is None else moved(self.documents),
        )

    @property
    def documents_of_labels(self) -> Tensor:
        """The document of each label, shape (n,), int64, where the rows are of several."""
        assert self.documents is not None
        return self.documents[self.predicting // self.input_ids.shape[1]]

    def attention_mask(self) -> Tensor | None:
        """Which token may see which: bool, shape (rows, 1, width, prefix + width). None means a plain causal mask."""
        if self.sequence_ids is None:
            return None
        seeing, seen = self.sequence_ids[:, :, None], self.sequence_ids[:, None, :]
        width = self.sequence_ids.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool, device=seen.device).tril()
        # Padding sees padding, since a softmax over nothing has no value.
        mask = (causal & ((seeing == seen) | ((seen == 0) & (seeing != _PADDING))))[:, None]
        return mask if self.prefix is None else pad(mask, (self.prefix.end, 0), value=True)


@dataclass(frozen=True)
class _PackedRow:
    """One row before padding: shapes as in `MicroBatch`, each without the first dimension."""

    input_ids: Tensor
    predicting: Tensor
    labels: Tensor
    samples: tuple[Sample, ...]
    sequence_ids: Tensor | None = None
    position_ids: Tensor | None = None
    document: int | None = None


def micro_batches(
    samples: Sequence[Sample],
    max_tokens: int,
    *,
    share_prefixes: bool,
    cache_prefixes: bool = False,
    column_cost: float = 0.0,
) -> list[MicroBatch]:
    """Lay out the samples of one optimizer step.

    Args:
        samples: The samples; those without a supervised token are left out.
        max_tokens: Most tokens of a micro-batch, padding and prefixes with a gradient included; a longer sample goes
            alone, or what samples of no more tokens in all have in common.
        share_prefixes: Whether the model can take the mask of a packed row.
        cache_prefixes: Whether the model, which takes such masks, can also attend to a cached prefix with a gradient.
        column_cost: What attention pays for a token to look at one more column, in units of what the token costs
            otherwise (`column_cost_of` a model). The higher, the narrower are packed rows.

    Returns:
        Micro-batches that hold each sample once; those behind the same prefix come in a run. Otherwise the largest come
        first, so that what does not fit in memory is known early.
    """
    groups: list[PrefixGroup] = []
    for ids, alike in by_prefix(sample for sample in samples if sample.supervised):
        if len(ids):
            prefix = SharedPrefix(ids, frozen=True)
            groups.append(PrefixGroup(prefix, pack(prefix, alike, max_tokens)))
        elif share_prefixes:
            groups += share(alike, max_tokens, column_cost, cache_prefixes=cache_prefixes)
        else:
            groups.append(PrefixGroup(None, [[sample] for sample in alike]))
    return list(chain.from_iterable(sorted(_runs(groups, max_tokens), key=_first)))


def joint_micro_batches(
    documents: Sequence[Sequence[Sample]], max_tokens: int, *, share_prefixes: bool, column_cost: float = 0.0
) -> list[MicroBatch]:
    """Lay out the samples of one optimizer step of each of several documents, without cached prefixes.

    Args:
        documents: The samples of each document; none has a prefix.
        max_tokens: As in `micro_batches`, of all documents together.
        share_prefixes: As in `micro_batches`.
        column_cost: As in `micro_batches`.

    Returns:
        Micro-batches that hold each sample once, the largest first. Rows of like length stand side by side, whatever
        their documents.
    """
    rows: list[_PackedRow] = []
    for number, samples in enumerate(documents):
        alike = [sample for sample in samples if sample.supervised]
        packed = [[sample] for sample in alike]
        if alike and share_prefixes:
            groups = share(alike, max_tokens, column_cost, cache_prefixes=False)
            packed = [row for group in groups for row in group.rows]
        rows += (replace(_row(row), document=number) for row in packed)
    kinds = ([row for row in rows if (row.sequence_ids is None) == plain] for plain in (True, False))
    batches = [_stack(alike) for kind in kinds for alike in _side_by_side(kind, max_tokens)]
    return sorted(batches, key=lambda batch: -batch.tokens)


def prefix_row(prefix: SharedPrefix) -> MicroBatch:
    """A prefix as the row that is read; it has nothing to predict."""
    nothing = torch.empty(0, dtype=torch.int64)
    ids = prefix.ids[None]
    if prefix.behind is None:
        return MicroBatch(ids, nothing, nothing, ())
    positions = torch.arange(prefix.start, prefix.end)[None]
    return MicroBatch(ids, nothing, nothing, (), torch.zeros_like(ids), positions, prefix.behind)


def _runs(groups: Iterable[PrefixGroup], max_tokens: int) -> Iterator[list[MicroBatch]]:
    """Micro-batches that come one after the other, since they stand behind the same prefix."""
    for prefix, alike in groupby(
        groups, key=lambda group: None if group.prefix is None else group.prefix.path[0]
    ):
        batches = [batch for group in alike for batch in _batches(group, max_tokens)]
        yield from ([batch] for batch in batches) if prefix is None else [batches]


def _first(run: Iterable[MicroBatch]) -> int:
    return -max(batch.tokens for batch in run)


def _batches(group: PrefixGroup, max_tokens: int) -> list[MicroBatch]:
    prefix = group.prefix
    if prefix is None:
        room = max_tokens
        kinds = [[_row(row) for row in group.rows if (len(row) == 1) == plain] for plain in (True, False)]
    else:
        longest = max(sample.tokens for row in group.rows for sample in row)
        room = room_behind(prefix, longest, max_tokens)
        kinds = [[_moved(_packed(row, 0), prefix.end) for row in group.rows]]
    batches = [_stack(rows, prefix) for kind in kinds for rows in _side_by_side(kind, room)]
    return sorted(batches, key=lambda batch: -batch.tokens)


def _side_by_side(rows: list[_PackedRow], max_tokens: int) -> Iterator[list[_PackedRow]]:
    """Gather rows of like length, as long as padding them costs less than one more forward pass."""
    gathered: list[_PackedRow] = []
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


def _stack(rows: Sequence[_PackedRow], prefix: SharedPrefix | None = None) -> MicroBatch:
    input_ids = pad_sequence([row.input_ids for row in rows], batch_first=True)
    starts = range(0, input_ids.numel(), input_ids.shape[1])
    sequence_ids = [row.sequence_ids for row in rows if row.sequence_ids is not None]
    positions = [row.position_ids for row in rows if row.position_ids is not None]
    documents = [row.document for row in rows if row.document is not None]
    return MicroBatch(
        input_ids,
        torch.cat([row.predicting + start for row, start in zip(rows, starts, strict=True)]),
        torch.cat([row.labels for row in rows]),
        tuple(chain.from_iterable(row.samples for row in rows)),
        pad_sequence(sequence_ids, batch_first=True, padding_value=_PADDING) if sequence_ids else None,
        pad_sequence(positions, batch_first=True) if positions else None,
        prefix,
        torch.tensor(documents) if documents else None,
    )


def _predicting(sample: Sample) -> Tensor:
    """Places of the sample whose hidden states predict its supervised tokens."""
    return torch.arange(sample.tokens - sample.supervised - 1, sample.tokens - 1)


def _labels(sample: Sample) -> Tensor:
    return sample.target[len(sample.target) - sample.supervised :]


def _row(samples: Sequence[Sample]) -> _PackedRow:
    """A row without a prefix: of one sample, or a packed one."""
    if len(samples) > 1:
        return _packed(samples, min(common_tokens(samples[0], sample) for sample in samples[1:]))
    (sample,) = samples
    ids = torch.cat([sample.context, sample.target])
    return _PackedRow(ids, _predicting(sample), _labels(sample), (sample,))


def _packed(samples: Sequence[Sample], shared: int) -> _PackedRow:
    rests = [torch.cat([sample.context, sample.target])[shared:] for sample in samples]
    parts = [samples[0].context[:shared], *rests]
    # A sequence's places move by the lengths of the sequences before it.
    offsets = [sum(len(rest) for rest in rests[:number]) for number in range(len(rests))]
    return _PackedRow(
        torch.cat(parts),
        torch.cat([_predicting(sample) + offset for sample, offset in zip(samples, offsets, strict=True)]),
        torch.cat([_labels(sample) for sample in samples]),
        tuple(samples),
        torch.cat([torch.full((len(part),), number) for number, part in enumerate(parts)]),
        torch.cat([torch.arange(shared), *(torch.arange(len(rest)) + shared for rest in rests)]),
    )


def _moved(row: _PackedRow, by: int) -> _PackedRow:
    assert row.position_ids is not None
    return replace(row, position_ids=row.position_ids + by)
