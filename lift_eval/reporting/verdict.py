"""A comparison in one sentence: which method answers better, with what certainty, and at what cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lift_eval.errors import counted
from lift_eval.reporting import statistics
from lift_eval.reporting.comparison import Cell, Comparison
from lift_eval.reporting.costs import break_evens
from lift_eval.reporting.table import number, seconds, signed, span


@dataclass(frozen=True)
class _Difference:
    """Method minus baseline on the questions of both, scaled as shown, with its 95 % interval."""

    value: float
    low: float
    high: float
    over: str


def verdicts(comparison: Comparison, column: str) -> list[str]:
    """A sentence for each method that is compared with a baseline.

    Args:
        comparison: The comparison.
        column: Label of the score that decides.
    """
    rows = [row.name for row in comparison.experiment.rows]
    pairs = [(row, baseline) for row in rows if (baseline := comparison.experiment.baseline_of(row))]
    return [_verdict(comparison, column, row, baseline) for row, baseline in pairs]


def costs(comparison: Comparison) -> list[str]:
    """A sentence on the time that each method takes beside its baseline."""
    return [
        f"cost of {found.row}: {seconds(found.fixed)} to prepare a document "
        f"({found.baseline}: {seconds(found.baseline_fixed)}), then {seconds(found.per_question)} per answer "
        f"({found.baseline}: {seconds(found.baseline_per_question)})"
        for found in break_evens(comparison)
    ]


def _verdict(comparison: Comparison, column: str, row: str, baseline: str) -> str:
    own, base = comparison.cell(row, column), comparison.cell(baseline, column)
    for cell in (own, base):
        if not cell.measured:
            return f"no verdict on {row} against {baseline} ({cell.row}: {cell.status})"
    if not own.paired_questions:
        return f"no verdict on {row} against {baseline}: they have no question in common"
    found = _difference(comparison, own, base)
    decimals = comparison.column(column).decimals
    scores = f"{column} {number(own.value, decimals)} against {number(base.value, decimals)}"
    shown = f"difference {signed(found.value, decimals)}"
    if math.isnan(found.low):
        return f"one question is too few to compare {row} with {baseline}: {scores}"
    sure = f"95 % interval {span(found.low, found.high, decimals)} over {found.over}"
    better = comparison.column(column).higher_is_better is not False
    if found.low > 0 or found.high < 0:
        verb = "better" if (found.low > 0) == better else "worse"
        return f"{row} answers {verb} than {baseline}: {scores}, {shown}, {sure}"
    return f"no clear difference between {row} and {baseline}: {scores}, {shown}, {sure}"


def _difference(comparison: Comparison, own: Cell, base: Cell) -> _Difference:
    """With its interval over documents, or over the questions if there is only one document."""
    if own.documents > 1:
        documents = counted(own.documents, "document")
        return _Difference(own.difference, own.difference_low, own.difference_high, documents)
    scale = comparison.column(own.column).scale or 1.0
    mine, theirs = (
        {(one.task, one.key): one for one in comparison.scores[cell.row, cell.column]} for cell in (own, base)
    )
    both = [(one, theirs[asked]) for asked, one in mine.items() if asked in theirs]
    method, baseline, denominators = (
        np.array([values], dtype=float)
        for values in (
            [one.numerator for one, _ in both],
            [other.numerator for _, other in both],
            [one.denominator for one, _ in both],
        )
    )
    result = statistics.compare_paired(method, baseline, denominators)
    questions = f"the {len(both):,} questions about this document; it says nothing about other documents"
    return _Difference(
        scale * result.difference, scale * result.interval.low, scale * result.interval.high, questions
    )
