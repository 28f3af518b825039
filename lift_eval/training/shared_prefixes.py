"""What samples of a step that begin alike compute together.

Either as a *tree*: one row that holds the common beginning once, under a mask. Or behind a *trunk*: the beginning is
read once by itself, and rows hold only what comes after it (`prefixes`). A tree costs no pass of its own, but its
attention looks at all columns of a dense mask, and it must fit in one row. A trunk costs a pass, and may be as long as
a sample. Trunks stand behind trunks: prompts that are cut in their middle share their first half, and those with
questions of equal length all but the question.

Which of these is least work is told from the samples alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from torch import Tensor

from lift_eval.training.samples import Sample

MIN_SHARED_TOKENS = 16
"""A shorter common beginning is not worth a mask."""

FREE_PADDING = 64
"""Tokens of padding that cost less than one more forward pass. So a trunk is never shorter."""

_DEEPEST = 4
"""Beginnings within beginnings that may become trunks; each doubles what is looked at."""


@dataclass(frozen=True, eq=False)
class Trunk:
    """Tokens that are read once for all rows behind them.

    Attributes:
        ids: Token ids, shape (t,), int64.
        behind: The trunk that this one stands behind, if there is one.
        frozen: Whether it gets no gradient.
    """

    ids: Tensor
    behind: Trunk | None = None
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
    def path(self) -> list[Trunk]:
        """The trunks before it and itself, in the order of their tokens."""
        return [*(self.behind.path if self.behind else []), self]


@dataclass(frozen=True)
class Group:
    """Samples behind the same trunk.

    Attributes:
        trunk: What they stand behind; none for whole samples.
        rows: The samples of each row, without the trunk's tokens.
    """

    trunk: Trunk | None
    rows: list[list[Sample]]


def share(samples: Sequence[Sample], max_tokens: int, column_cost: float, *, trunks: bool) -> list[Group]:
    """Decide which samples of a step share what.

    Args:
        samples: Samples without a prefix.
        max_tokens: Most tokens of a micro-batch.
        column_cost: What attention pays for a token to look at one more column, in units of what the token costs
            otherwise.
        trunks: Whether trunks can be read; else there are trees alone.

    Returns:
        Groups that hold each sample once. What stands behind a trunk and behind those that follow it comes in a run.
    """
    sharing = _Sharing(samples, max_tokens, column_cost)
    everything = range(len(samples))
    return sharing.groups(sharing.best(everything) if trunks else sharing.together(everything))


def room_behind(trunk: Trunk, longest: int, max_tokens: int) -> int:
    """Most tokens of a micro-batch behind a trunk.

    With the trunk's own, whose activations are kept until its rows have had their gradient, they are at most the
    tokens that a micro-batch may have, or those of the longest sample as a whole. A frozen trunk keeps none.

    Args:
        trunk: The trunk.
        longest: Most tokens of a sample behind it, without the trunk's.
        max_tokens: Most tokens of a micro-batch.
    """
    return max_tokens if trunk.frozen else max(max_tokens - trunk.end, longest)


def pack(trunk: Trunk, samples: Sequence[Sample], max_tokens: int) -> list[list[Sample]]:
    """Put samples behind a trunk into rows.

    Args:
        trunk: The trunk.
        samples: Without its tokens.
        max_tokens: Most tokens of a micro-batch; a longer sample goes alone.
    """
    rows = _packed(trunk, [sample.tokens for sample in samples], max_tokens)
    return [[samples[place] for place in row] for row in rows]


def _packed(trunk: Trunk, lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Places of the lengths that share a row.

    Short ones do, as long as the row is no longer than what is before it: each row copies the trunk's keys and values,
    and each token pays for the columns of its neighbours, so either costs at most as much as looking at the trunk.
    """
    room = min(max(trunk.end, 1), room_behind(trunk, max(lengths), max_tokens))
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
    """Tokens that two contexts begin with, short of the last token of each: it must predict in its own branch."""
    length = max(min(len(first.context), len(second.context)) - 1, 0)
    differs = (first.context[:length] != second.context[:length]).nonzero()
    return int(differs[0]) if len(differs) else length


@dataclass(frozen=True)
class _Choice:
    """A way to compute samples: its work in tokens' worth, and the numbers of the samples behind each trunk."""

    work: float
    behind: list[tuple[Trunk | None, list[int]]] = field(default_factory=list)


class _Sharing:
    """The search over the beginnings of samples, in the order of their contexts."""

    def __init__(self, samples: Sequence[Sample], max_tokens: int, column_cost: float) -> None:
        self.samples = sorted(samples, key=lambda sample: sample.context.tolist())
        self.tokens = [sample.tokens for sample in self.samples]
        self.common = [common_tokens(*neighbours) for neighbours in pairwise(self.samples)]
        self.max_tokens = max_tokens
        self.column_cost = column_cost

    def best(self, numbers: range, trunk: Trunk | None = None, depth: int = 0) -> _Choice:
        """The least work for samples that stand behind a trunk: as they are, divided, or behind one more trunk."""
        together = self.together(numbers, trunk)
        if len(numbers) < 2 or depth == _DEEPEST:
            return together
        shared, least = self._shared(numbers.start, numbers.stop - 1), _end(trunk) + FREE_PADDING
        if shared < least:
            return _least(together, self._divided(numbers, least, trunk, depth))
        deeper = Trunk(self.samples[numbers.start].context[_end(trunk) : shared], trunk)
        behind = _least(
            self.together(numbers, deeper),
            self._divided(numbers, shared + FREE_PADDING, deeper, depth + 1),
        )
        reading = FREE_PADDING + self._row_work(len(deeper.ids), deeper.start, masked=False)
        return _least(
            together,
            self._divided(numbers, shared + 1, trunk, depth + 1),
            _Choice(reading + behind.work, behind.behind),
        )

    def groups(self, choice: _Choice) -> list[Group]:
        """What was chosen, with the samples instead of their numbers."""
        return [Group(trunk, self._rows(trunk, numbers)) for trunk, numbers in choice.behind]

    def _rows(self, trunk: Trunk | None, numbers: Sequence[int]) -> list[list[Sample]]:
        if trunk is None:
            return [[self.samples[number] for number in tree] for tree in self._trees(numbers)]
        samples = (self.samples[number] for number in numbers)
        rests = [Sample(sample.context[trunk.end :], sample.target) for sample in samples]
        return pack(trunk, rests, self.max_tokens)

    def _divided(self, numbers: range, shared: int, trunk: Trunk | None, depth: int) -> _Choice:
        """The least work for runs of samples that share so many tokens, each run by itself."""
        chosen = [self.best(part, trunk, depth) for part in self._parts(numbers, shared)]
        here = [
            number for choice in chosen for at, numbers in choice.behind if at is trunk for number in numbers
        ]
        deeper = [group for choice in chosen for group in choice.behind if group[0] is not trunk]
        return _Choice(sum(choice.work for choice in chosen), [*([(trunk, here)] if here else []), *deeper])

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

    def together(self, numbers: range, trunk: Trunk | None = None) -> _Choice:
        """Trees behind no trunk, rows behind one."""
        if trunk is None:
            trees = [(self._tree_width(tree), len(tree) > 1) for tree in self._trees(numbers)]
            work = sum(self._row_work(width, 0, masked=masked) for width, masked in trees)
            passes = sum(width / max(width, self.max_tokens) for width, _ in trees)
        else:
            lengths = [self.tokens[number] - trunk.end for number in numbers]
            rows = _packed(trunk, lengths, self.max_tokens)
            widths = (sum(lengths[place] for place in row) for row in rows)
            work = sum(self._row_work(width, trunk.end, masked=True) for width in widths)
            passes = math.ceil(sum(lengths) / room_behind(trunk, max(lengths), self.max_tokens))
        return _Choice(work + FREE_PADDING * passes, [(trunk, list(numbers))])

    def _trees(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Group samples whose contexts begin alike; a sample that shares too little is a tree of one.

        In the order of their contexts each sample joins its neighbour's tree, if that is less work than a row of its
        own and the tree does not grow too wide: its attention looks at all columns, masked or not.
        """
        tree: list[int] = []
        for number in numbers:
            if tree and self._joins(tree, number):
                tree.append(number)
                continue
            if tree:
                yield tree
            tree = [number]
        if tree:
            yield tree

    def _joins(self, tree: list[int], number: int) -> bool:
        common = self._shared(tree[0], number)
        if common < MIN_SHARED_TOKENS:
            return False
        wide = self._width([*tree, number], common)
        if wide > min(self.max_tokens, _widest(common, self.column_cost)):
            return False
        return self._tree_work([*tree, number]) < self._tree_work(tree) + self._tree_work([number])

    def _width(self, tree: Sequence[int], shared: int) -> int:
        return shared + sum(self.tokens[number] - shared for number in tree)

    def _tree_width(self, tree: Sequence[int]) -> int:
        return self._width(tree, self._shared(tree[0], tree[-1]) if len(tree) > 1 else 0)

    def _tree_work(self, tree: Sequence[int]) -> float:
        return self._row_work(self._tree_width(tree), 0, masked=len(tree) > 1)

    def _row_work(self, width: int, before: int, *, masked: bool) -> float:
        """Cost of a row in tokens' worth; causal attention without a mask skips half of the columns."""
        columns = before + width if masked or before else width / 2
        return width * (1 + self.column_cost * columns)


def _least(*choices: _Choice) -> _Choice:
    return min(choices, key=lambda choice: choice.work)


def _end(trunk: Trunk | None) -> int:
    return 0 if trunk is None else trunk.end


def _widest(shared: int, column_cost: float) -> float:
    """Width at which a tree of short branches costs least per token of its branches.

    The minimum over w of ``w * (1 + c * w) / (w - p)``, for a prefix of p tokens and a column cost of c.
    """
    return shared + math.sqrt(shared**2 + shared / column_cost) if column_cost else math.inf
