"""LooGLE's timelines: the order of numbered events."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def read_order(text: str, labels: Iterable[int]) -> list[int] | None:
    """Read the order of numbered events from an answer.

    The first run of numbers with only separators between them that names every event once; where there is
    none, the numbers in the order of their first appearance. Words ("three, then one") are not read. LooGLE's code
    reads Roman numerals only, while its data holds digits.

    Args:
        text: The answer.
        labels: The events' numbers.

    Returns:
        The labels in the order of the answer, or None where it does not name every event.
    """
    wanted = sorted(labels)
    for run in re.findall(r"\d+(?:(?:\s|[,;>.)(\-–—→])+\d+)*", text):
        numbers = _numbers(run)
        if sorted(numbers) == wanted:
            return numbers
    seen = list(dict.fromkeys(_numbers(text)))
    named = [number for number in seen if number in set(wanted)]
    return named if sorted(named) == wanted else None


def _numbers(text: str) -> list[int]:
    """All numbers of a text; one of more digits than Python converts at once, which names nothing, as -1."""
    return [int(digits) if len(digits) < 100 else -1 for digits in re.findall(r"\d+", text)]


def reference_order(answer: str) -> list[int] | None:
    """The order that a timeline row holds, e.g. ``"3,5,1,4,2"``; None if it is not an order of 1 to n, n > 1."""
    numbers = _numbers(answer)
    is_order = len(numbers) > 1 and sorted(numbers) == list(range(1, len(numbers) + 1))
    return numbers if is_order else None


def timeline_deviations(prediction: Sequence[int] | None, reference: Sequence[int]) -> dict[str, float]:
    """LooGLE's four distances between two orders of the same events; 0 is best, none is bounded by 1.

    With d the displacement of each event: LSD is the mean of d squared, LMD the mean of its absolute value, SD the
    events minus the cycles of the permutation (the fewest swaps that sort it), SDD the summed distance of the swaps
    that a greedy sort makes. A greedy swap always finds two events that both move towards their places, so SDD is
    half the sum of the absolute displacements. An answer that is not an order gets the largest value of each.

    Source: LooGLE, appendix. Its code replaces every valid value with the largest possible one and fails on every
    other; the names here say ``standard`` so that the figures are not confused.

    Args:
        prediction: The predicted order, or None where the answer holds none.
        reference: The right order, a permutation of the same numbers.
    """
    n = len(reference)
    if prediction is None:
        reversal = n * n // 2
        worst = ((n * n - 1) / 3, reversal / n, float(n - 1), reversal / 2)
        return dict(zip(_DEVIATIONS, worst, strict=True))
    place = {label: index for index, label in enumerate(reference)}
    target = [place[label] for label in prediction]
    moves = [abs(index - goal) for index, goal in enumerate(target)]
    values = (sum(m * m for m in moves) / n, sum(moves) / n, float(n - _cycles(target)), sum(moves) / 2)
    return dict(zip(_DEVIATIONS, values, strict=True))


_DEVIATIONS = ("lsd_standard", "lmd_standard", "sd_standard", "sdd_standard")


def _cycles(permutation: Sequence[int]) -> int:
    seen: set[int] = set()
    count = 0
    for start in range(len(permutation)):
        count += start not in seen
        at = start
        while at not in seen:
            seen.add(at)
            at = permutation[at]
    return count
