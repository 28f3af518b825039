"""Score against cost, with the Pareto front: the methods that no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Callable

from lift_eval.reporting.comparison import Comparison
from lift_eval.reporting.costs import Cost, method_costs
from lift_eval.reporting.figures.shared import (
    Point,
    Shown,
    by_field,
    crowded,
    interval,
    look_of,
    measured_rows,
)
from lift_eval.reporting.places import whole_columns

FREE = 0.1
"""Methods without the cost are drawn at this share of the lowest cost: a logarithmic axis has no zero."""
SPREAD = 1.12
"""How far apart methods without the cost are drawn where there are many: the next one is so many times as far."""
NEAR, LINE = 0.04, 0.075
"""Numbers of methods would cover each other if they were nearer: in powers of ten, and in parts of a panel's height."""
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


def apart(points: list[Point]) -> list[float]:
    """Heights at which the numbers of a panel's points can be read: beside each point, or above the one below.

    Args:
        points: With cost ``x``, score ``y`` and its interval, ``low`` to ``high``.
    """
    step = LINE * (max(point["high"] for point in points) - min(point["low"] for point in points))
    heights = [0.0] * len(points)
    taken: list[tuple[float, float]] = []
    for place in sorted(range(len(points)), key=lambda place: points[place]["y"]):
        x, height = math.log10(points[place]["x"]), points[place]["y"]
        for other, used in taken:  # from the lowest on
            if abs(other - x) < NEAR and abs(used - height) < step:
                height = used + step
        taken = sorted([*taken, (x, height)], key=lambda one: one[1])
        heights[place] = height
    return heights


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
    free = [row for row in known if not known[row]]
    rows, named = measured_rows(comparison), crowded(comparison)
    names = {row: f"{number} {row}" if named else row for number, row in enumerate(rows, start=1)}
    points: list[Point] = []
    lines: list[Point] = []
    for column in whole_columns(comparison)[:MOST_PANELS]:
        cells = [comparison.cell(row, column.label) for row in rows if row in known]
        own: list[Point] = [
            {
                "panel": column.label,
                "look": names[cell.row],
                "number": str(rows.index(cell.row) + 1),
                "x": known[cell.row] or FREE * min(paid) * (SPREAD ** free.index(cell.row) if named else 1),
                "y": cell.value,
                **interval(cell),
            }
            for cell in cells
            if cell.measured
        ]
        for point, height in zip(own, apart(own) if own else (), strict=True):
            point["beside"] = height
        points += own
        best = front(own, higher_is_better=column.higher_is_better is not False)
        lines += [{name: point[name] for name in ("panel", "x", "y")} for point in best]
    if not points:
        return None
    drawn = {str(point["look"]) for point in points}
    shown = {name: look_of(comparison, row) for row, name in names.items() if name in drawn}
    return by_field(points), shown, {"front": by_field(lines), "named": named}
