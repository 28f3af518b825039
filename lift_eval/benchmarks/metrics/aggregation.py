"""From the values of a run's questions to one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable


def micro_average(counts: Iterable[tuple[float, float]]) -> float:
    """Sum of the hits over the sum of the totals, for values that are pairs (hits, total)."""
    pairs = list(counts)
    return sum(hits for hits, _ in pairs) / sum(of for _, of in pairs)


def count_distinct(values: Iterable[Hashable]) -> int:
    """The number of different values: a run's documents, from the documents of its questions."""
    return len(set(values))


def total(values: Iterable[float]) -> float:
    """The sum: a run's questions of one type, from 0 or 1 for each question."""
    return sum(values)
