"""Score against cost, with the Pareto front: the methods that no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Callable

from lift_eval.reporting.comparison import Comparison
from lift_eval.reporting.costs import Cost, method_costs
from lift_eval.reporting.figures.shared import Point, Shown, by_field, looks, measured_rows
from lift_eval.reporting.places import whole_columns

FREE = 0.1
"""Methods without the cost are drawn at this share of the lowest cost: a logarithmic axis has no zero."""
MOST_PANELS = 6


def front(points: list[Point], *, higher_is_better: bool) -> list[Point]:
    """The Pareto front of score and cost, from the cheapest point on.

    Args:
        points: With cost ``x`` and score ``y``.
        higher_is_better: Whether a higher score is better.
    """
    sign = 1 if higher_is_better else -1
    found: list[Point] = []
    for point in sorted(points, key=lambda one: (one["x"], -sign * one["y"])):
        if not found or sign * point["y"] > sign * found[-1]["y"]:
            found.append(point)
    return found


def score_against(comparison: Comparison, cost: Callable[[Cost], float]) -> Shown | None:
    """The contents of a figure of scores against a cost; None where fewer than two methods have it.

    Args:
        comparison: Whose methods.
        cost: A method's cost; NaN where it is not known.
    """
    values = {row: cost(found) for row, found in method_costs(comparison).items()}
    known = {row: value for row, value in values.items() if not math.isnan(value)}
    paid = [value for value in known.values() if value > 0]
    if len(known) < 2 or not paid:
        return None
    points: list[Point] = []
    lines: list[Point] = []
    for column in whole_columns(comparison)[:MOST_PANELS]:
        cells = [comparison.cell(row, column.label) for row in measured_rows(comparison) if row in known]
        own: list[Point] = [
            {
                "panel": column.label,
                "look": cell.row,
                "x": known[cell.row] or FREE * min(paid),
                "y": cell.value,
                "low": cell.value if math.isnan(cell.low) else cell.low,
                "high": cell.value if math.isnan(cell.high) else cell.high,
            }
            for cell in cells
            if cell.measured
        ]
        points += own
        best = front(own, higher_is_better=column.higher_is_better is not False)
        lines += [{name: point[name] for name in ("panel", "x", "y")} for point in best]
    if not points:
        return None
    drawn = dict.fromkeys(str(point["look"]) for point in points)
    return by_field(points), looks(comparison, drawn), {"front": by_field(lines)}
