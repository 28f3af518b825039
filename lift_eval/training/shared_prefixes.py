"""Samples of a step that begin alike: which of them share the computation of their common beginning.

Either they are *packed* into one row that holds the common beginning once, under a mask. Or they follow a *cached
prefix*: the beginning is read once by itself, and rows hold only what comes after it (`prefix_cache`). A packed row
costs no pass of its own, but its attention looks at all columns of a dense mask, and it must fit in one row. A cached
prefix costs a pass, and may be as long as a sample. A prefix may follow another: prompts that are cut in their middle
share their first half, and those with questions of equal length all but the question.

The cheaper way is chosen from the samples alone, by the cost model below.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from torch import Tensor

from lift_eval.training.samples import Sample

MIN_SHARED_TOKENS = 16
"""A shorter common beginning is not worth a mask."""

FREE_PADDING = 64
"""Tokens of padding that cost less than one more forward pass. So a prefix is never shorter."""

_DEEPEST = 4
"""Most prefixes behind one another; each level doubles the number of choices."""


@dataclass(frozen=True, eq=False)
class SharedPrefix:
    """Tokens that are read once for all rows behind them.

    Attributes:
        ids: Token ids, shape (t,), int64.
        behind: The prefix that this one stands behind, if there is one.
        frozen: Whether it gets no gradient.
    """

    ids: Tensor
    behind: SharedPrefix | None = None
    frozen: bool = False

    @property
    def start(self) -> int:
        """Tokens before it."""
        return _end(self.behind)

    @property
    def end(self) -> int:
        """Tokens before what stands behind it."""
        return self.start + len(self.ids)

    @property
    def path(self) -> list[SharedPrefix]:
        """The prefixes before it and itself, in the order of their tokens."""
        return [*(self.behind.path if self.behind else []), self]


@dataclass(frozen=True)
class PrefixGroup:
    """Samples behind the same prefix.

    Attributes:
        prefix: The prefix before them. None means whole samples.
        rows: The samples of each row, without the prefix's tokens.
    """

    prefix: SharedPrefix | None
    rows: list[list[Sample]]


def share(
    samples: Sequence[Sample], max_tokens: int, column_cost: float, *, cache_prefixes: bool
) -> list[PrefixGroup]:
    """Decide which samples of a step share what.

    Args:
        samples: Samples without a prefix.
        max_tokens: Most tokens of a micro-batch.
        column_cost: Cost of one more attention column for a token, as a share of the token's other costs.
        cache_prefixes: Whether prefixes may be cached; if not, rows are packed only.

    Returns:
        Groups that hold each sample once. Those behind a prefix, or behind a prefix that follows it, are consecutive.
    """
    sharing = _Sharing(samples, max_tokens, column_cost)
    everything = range(len(samples))
    return sharing.groups(sharing.best(everything) if cache_prefixes else sharing.together(everything))


def room_behind(prefix: SharedPrefix, longest: int, max_tokens: int) -> int:
    """Most tokens of a micro-batch behind a prefix.

    With the prefix's own, whose activations are kept until its rows have had their gradient, they are at most the
    tokens that a micro-batch may have, or those of the longest sample as a whole. A frozen prefix keeps none.

    Args:
        prefix: The prefix.
        longest: Most tokens of a sample behind it, without the prefix's.
        max_tokens: Most tokens of a micro-batch.
    """
    return max_tokens if prefix.frozen else max(max_tokens - prefix.end, longest)


def pack(prefix: SharedPrefix, samples: Sequence[Sample], max_tokens: int) -> list[list[Sample]]:
    """Put samples behind a prefix into rows.

    Args:
        prefix: The prefix.
        samples: Samples without the prefix's tokens.
        max_tokens: Most tokens of a micro-batch; a longer sample goes alone.
    """
    rows = _packed(prefix, [sample.tokens for sample in samples], max_tokens)
    return [[samples[place] for place in row] for row in rows]


def _packed(prefix: SharedPrefix, lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Places of the lengths that share a row.

    Short ones do, as long as the row is no longer than what is before it: each row copies the prefix's keys and values,
    and each token pays for the columns of its neighbours, so either costs at most as much as looking at the prefix.
    """
    room = min(max(prefix.end, 1), room_behind(prefix, max(lengths), max_tokens))
    rows: list[list[int]] = []
    width = 0
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if rows and width + lengths[place] <= room:
            rows[-1].append(place)
            width += lengths[place]
        else:
            rows.append([place])
            width = lengths[place]
    return rows


def common_tokens(first: Sample, second: Sample) -> int:
    """Tokens that two contexts begin with, short of the last token of each: it must predict in its own sequence."""
    length = max(min(len(first.context), len(second.context)) - 1, 0)
    differs = (first.context[:length] != second.context[:length]).nonzero()
    return int(differs[0]) if len(differs) else length


@dataclass(frozen=True)
class _Choice:
    """A way to compute samples: its work in tokens' worth, and the numbers of the samples behind each prefix."""

    work: float
    behind: list[tuple[SharedPrefix | None, list[int]]] = field(default_factory=list)


class _Sharing:
    """The search over the beginnings of samples, in the order of their contexts."""

    def __init__(self, samples: Sequence[Sample], max_tokens: int, column_cost: float) -> None:
        self.samples = sorted(samples, key=lambda sample: sample.context.tolist())
        self.tokens = [sample.tokens for sample in self.samples]
        self.common = [common_tokens(*neighbours) for neighbours in pairwise(self.samples)]
        self.max_tokens = max_tokens
        self.column_cost = column_cost

    def best(self, numbers: range, prefix: SharedPrefix | None = None, depth: int = 0) -> _Choice:
        """The least work for samples that stand behind a prefix: as they are, divided, or behind one more prefix."""
        together = self.together(numbers, prefix)
        if len(numbers) < 2 or depth == _DEEPEST:
            return together
        shared, least = self._shared(numbers.start, numbers.stop - 1), _end(prefix) + FREE_PADDING
        if shared < least:
            return _least(together, self._divided(numbers, least, prefix, depth))
        deeper = SharedPrefix(self.samples[numbers.start].context[_end(prefix) : shared], prefix)
        behind = _least(
            self.together(numbers, deeper),
            self._divided(numbers, shared + FREE_PADDING, deeper, depth + 1),
        )
        reading = FREE_PADDING + self._row_work(len(deeper.ids), deeper.start, masked=False)
        return _least(
            together,
            self._divided(numbers, shared + 1, prefix, depth + 1),
            _Choice(reading + behind.work, behind.behind),
        )

    def groups(self, choice: _Choice) -> list[PrefixGroup]:
        """What was chosen, with the samples instead of their numbers."""
        return [PrefixGroup(prefix, self._rows(prefix, numbers)) for prefix, numbers in choice.behind]

    def _rows(self, prefix: SharedPrefix | None, numbers: Sequence[int]) -> list[list[Sample]]:
        if prefix is None:
            return [[self.samples[number] for number in row] for row in self._packed_rows(numbers)]
        samples = (self.samples[number] for number in numbers)
        rests = [replace(sample, context=sample.context[prefix.end :]) for sample in samples]
        return pack(prefix, rests, self.max_tokens)

    def _divided(self, numbers: range, shared: int, prefix: SharedPrefix | None, depth: int) -> _Choice:
        """The least work for runs of samples that share so many tokens, each run by itself."""
        chosen = [self.best(part, prefix, depth) for part in self._parts(numbers, shared)]
        here = [
            number for choice in chosen for at, numbers in choice.behind if at is prefix for number in numbers
        ]
        deeper = [group for choice in chosen for group in choice.behind if group[0] is not prefix]
        return _Choice(sum(choice.work for choice in chosen), [*([(prefix, here)] if here else []), *deeper])

    def _parts(self, numbers: range, shared: int) -> Iterator[range]:
        """Runs of samples that all share so many tokens."""
        start = numbers.start
        for number in numbers[1:]:
            if self.common[number - 1] < shared:
                yield range(start, number)
                start = number
        yield range(start, numbers.stop)

    def _shared(self, first: int, last: int) -> int:
        """Tokens that samples from one to another all begin with."""
        return min(self.common[first:last])

    def together(self, numbers: range, prefix: SharedPrefix | None = None) -> _Choice:
        """Packed rows behind no prefix, rows behind one."""
        if prefix is None:
            packed = [(self._packed_width(row), len(row) > 1) for row in self._packed_rows(numbers)]
            work = sum(self._row_work(width, 0, masked=masked) for width, masked in packed)
            passes = sum(width / max(width, self.max_tokens) for width, _ in packed)
        else:
            lengths = [self.tokens[number] - prefix.end for number in numbers]
            rows = _packed(prefix, lengths, self.max_tokens)
            widths = (sum(lengths[place] for place in row) for row in rows)
            work = sum(self._row_work(width, prefix.end, masked=True) for width in widths)
            passes = math.ceil(sum(lengths) / room_behind(prefix, max(lengths), self.max_tokens))
        return _Choice(work + FREE_PADDING * passes, [(prefix, list(numbers))])

    def _packed_rows(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Group samples whose contexts begin alike; a sample that shares too little is a packed row of one.

        In the order of their contexts each sample joins its neighbour's row, if that is less work than a row of its own
        and the packed row does not grow too wide: its attention looks at all columns, masked or not.
        """
        row: list[int] = []
        for number in numbers:
            if row and self._joins(row, number):
                row.append(number)
                continue
            if row:
                yield row
            row = [number]
        if row:
            yield row

    def _joins(self, row: list[int], number: int) -> bool:
        common = self._shared(row[0], number)
        if common < MIN_SHARED_TOKENS:
            return False
        wide = self._width([*row, number], common)
        if wide > min(self.max_tokens, _widest(common, self.column_cost)):
            return False
        return self._packed_work([*row, number]) < self._packed_work(row) + self._packed_work([number])

    def _width(self, row: Sequence[int], shared: int) -> int:
        return shared + sum(self.tokens[number] - shared for number in row)

    def _packed_width(self, row: Sequence[int]) -> int:
        return self._width(row, self._shared(row[0], row[-1]) if len(row) > 1 else 0)

    def _packed_work(self, row: Sequence[int]) -> float:
        return self._row_work(self._packed_width(row), 0, masked=len(row) > 1)

    def _row_work(self, width: int, before: int, *, masked: bool) -> float:
        """Cost of a row in tokens' worth; causal attention without a mask skips half of the columns."""
        columns = before + width if masked or before else width / 2
        return width * (1 + self.column_cost * columns)


def _least(*choices: _Choice) -> _Choice:
    return min(choices, key=lambda choice: choice.work)


def _end(prefix: SharedPrefix | None) -> int:
    return 0 if prefix is None else prefix.end


def _widest(shared: int, column_cost: float) -> float:
    """Width at which a packed row of short sequences costs least per token of its sequences.

    The minimum over w of ``w * (1 + c * w) / (w - p)``, for a prefix of p tokens and a column cost of c.
    """
    return shared + math.sqrt(shared**2 + shared / column_cost) if column_cost else math.inf
