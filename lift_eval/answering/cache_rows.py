"""How prompts lie in rows of keys and values: their common tokens once, then the rest of each as a continuation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import TypeVar

T = TypeVar("T")

COMMON, PADDING = -1, -2
"""Columns that all continuations of a row see, and those that only padding sees."""


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with, short of the shortest prompt's last."""
    first, last = min(prompts, key=list), max(prompts, key=list)
    limit = min(len(prompt) for prompt in prompts) - 1
    return next((i for i in range(limit) if first[i] != last[i]), limit)


def group_rows(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Gather prompts, as indices, that are best decoded as continuations of one row.

    Continuations do not see each other, so all of them together are hardly longer than what they share.
    """

    def shared(row: Iterable[int]) -> int:
        return shared_length([prompts[index] for index in row])

    rows: list[list[int]] = []
    for index in sorted(range(len(prompts)), key=lambda index: list(prompts[index])):
        row = [*rows[-1], index] if rows else [index]
        common = shared(row)
        if rows and sum(len(prompts[one]) - common for one in row) <= common:
            rows[-1] = row
        else:
            rows.append([index])
    # A step reads as many tokens of each row as of the one with the most prompts.
    alike: list[list[list[int]]] = []
    for row in rows:
        if alike and len(alike[-1][0]) > 1 and shared(chain(*alike[-1], row)) == shared(alike[-1][0]):
            alike[-1].append(row)
        else:
            alike.append([row])
    return [part for some in alike for part in evenly(list(chain(*some)), len(some))]


def evenly(some: Sequence[T], rows: int) -> list[list[T]]:
    """Spread some over rows, in order."""
    edges = [len(some) * row // rows for row in range(rows + 1)]
    return [list(some[start:stop]) for start, stop in pairwise(edges)]


def lay_out(
    prompts: Sequence[Sequence[int]], held: int, shared: int, alike: Sequence[int], dropped: int
) -> list[CacheRow]:
    """Lay out prompts in rows, those of like length, which are read side by side, behind each other.

    Args:
        prompts: Token ids of each prompt.
        held: How many of its last tokens are not read with the rest.
        shared: How many tokens all begin with, if those are read once.
        alike: For each prompt, how many of its first tokens may be common to a row; without any, all of them.
        dropped: How many of the tokens that all begin with are dropped from memory.
    """
    read = [prompt[: len(prompt) - held] for prompt in prompts]
    rows = [CacheRow.of(row, read, shared, alike).without(dropped) for row in group_rows(read)]
    for one in (one for row in rows for one in row.continuations):
        one.held = list(prompts[one.prompt][len(read[one.prompt]) :])
    return sorted(rows, key=lambda row: -len(row.tokens))


@dataclass
class Continuation:
    """A prompt and its answer so far.

    Attributes:
        prompt: Number of the prompt.
        length: Of its tokens.
        end: Column of its last token in the row.
        held: Tokens of the prompt that are not read with the rest of it.
        answer: These, and new tokens.
    """

    prompt: int
    length: int
    end: int
    held: list[int] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)


@dataclass
class CacheRow:
    """Prompts in one row: their common tokens, then the rest of each.

    Attributes:
        tokens: Of all columns that are read with the prompts.
        positions: Theirs in the text.
        owners: The continuation of each column that holds something, by its number in ``continuations``; `COMMON` where
            it belongs to all.
        continuations: The prompts.
        alive: Numbers of the continuations that are not finished.
    """

    tokens: list[int]
    positions: list[int]
    owners: list[int]
    continuations: list[Continuation]
    alive: list[int]

    @property
    def used(self) -> int:
        """Columns that hold something."""
        return len(self.owners)

    @classmethod
    def of(
        cls, indices: Sequence[int], prompts: Sequence[Sequence[int]], shared: int, alike: Sequence[int]
    ) -> CacheRow:
        """Lay out prompts; a single one goes on where all rows do."""
        row = [prompts[index] for index in indices]
        common = shared_length(row) if len(row) > 1 else shared
        if alike:
            common = min(common, *(alike[index] for index in indices))
        tokens, positions = list(row[0][:common]), list(range(common))
        owners, continuations = [COMMON] * common, []
        for number, (index, prompt) in enumerate(zip(indices, row, strict=True)):
            tokens += prompt[common:]
            positions += range(common, len(prompt))
            owners += [number] * (len(prompt) - common)
            continuations.append(Continuation(index, len(prompt), len(tokens) - 1))
        return cls(tokens, positions, owners, continuations, list(range(len(continuations))))

    @classmethod
    def moved(cls, continuations: list[Continuation], owners: list[int]) -> CacheRow:
        """A row of continuations that have been read in others; its tokens are not read again."""
        return cls([], [], owners, continuations, list(range(len(continuations))))

    def without(self, columns: int) -> CacheRow:
        """The row when so many of its first columns have been dropped from memory."""
        for one in self.continuations:
            one.end -= columns
        kept = (self.tokens[columns:], self.positions[columns:], self.owners[columns:])
        return CacheRow(*kept, self.continuations, self.alive)

    def follow(self, prompt: int, ids: Sequence[int]) -> tuple[int, int, int]:
        """Put in a second prompt, which writes over what it does not share with a first one that was alone in the row.

        Args:
            prompt: Its number.
            ids: Its tokens.

        Returns:
            Its number in ``continuations``, the place of its token that is read first, and that one's column.
        """
        if len(self.continuations) == 1:
            start = column = shared_length([self.tokens, ids])
            self.continuations.clear()
        else:
            start, column = self.owners.count(COMMON), self.used
        self.owners[column:] = [len(self.continuations)] * (len(ids) - start)
        self.continuations.append(Continuation(prompt, len(ids), self.used - 1))
        return len(self.continuations) - 1, start, column
