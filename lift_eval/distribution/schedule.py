"""Which worker takes which document."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def longest_first(weights: Sequence[float]) -> list[int]:
    """Places of the weights from the greatest to the least; equal ones keep their order."""
    return sorted(range(len(weights)), key=lambda place: -weights[place])


def assign(weights: Sequence[float], workers: int) -> list[list[int]]:
    """Give each item to a worker so that the last one to finish finishes early.

    The longest item first, each to the worker that has least so far (Graham's LPT rule): the greatest load is at most
    4/3 - 1/(3 * workers) of the least possible one.

    Args:
        weights: Of each item, in any unit of work.
        workers: How many there are.

    Returns:
        The places of each worker's items, longest first; equal arguments give equal results.
    """
    loads = [(0.0, worker) for worker in range(workers)]
    shares: list[list[int]] = [[] for _ in range(workers)]
    for place in longest_first(weights):
        load, worker = heapq.heappop(loads)
        shares[worker].append(place)
        heapq.heappush(loads, (load + weights[place], worker))
    return shares
