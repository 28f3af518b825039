"""Multiple choice about a document that was given up: the question counts as wrong.

A model tells lm-eval the log-likelihood of each choice and never learns which one is right. Of a document that was
given up all are minus infinity, and lm-eval would take the first for the answer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from lm_eval.api.task import Task

UNLIKELY = -1e4
"""Log-likelihood of a choice that is not taken; finite, since tasks subtract and divide."""

Metrics = Mapping[str, Any]
ProcessResults = Callable[[Task, Any, Sequence[Any]], Metrics]


class LostScore(NamedTuple):
    """The score of a request whose document was given up."""

    log_likelihood: float = -math.inf
    is_greedy: bool = False


def count_as_wrong() -> None:
    """Let all tasks count rows of lost scores as answered wrong; what other rows score does not change."""
    for kind in {Task, *_subclasses(Task)}:
        own = vars(kind).get("process_results")
        if own is not None and not hasattr(own, "counts_lost_choices"):
            kind.process_results = _counting(own)


def _counting(original: ProcessResults) -> ProcessResults:
    @functools.wraps(original)
    def process_results(task: Task, row: Any, results: Sequence[Any]) -> Metrics:  # noqa: ANN401
        if sum(isinstance(result, LostScore) for result in results) < 2:
            return original(task, row, results)
        taken = (
            [(0.0 if place == choice else UNLIKELY, False) for place in range(len(results))]
            for choice in range(len(results))
        )
        return min((original(task, row, scores) for scores in taken), key=_credit)

    process_results.counts_lost_choices = True  # type: ignore[attr-defined]
    return process_results


def _credit(metrics: Metrics) -> float:
    """How right an answer is, by the metrics of its row: numbers, or pairs of the right choice and the one taken."""
    numbers = [float(value) for value in metrics.values() if isinstance(value, Real)]
    pairs = [value for value in metrics.values() if isinstance(value, tuple) and len(value) == 2]
    return sum(numbers) + sum(np.array_equal(right, taken) for right, taken in pairs)


def _subclasses(kind: type[Task]) -> Iterator[type[Task]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
