"""Cost against the number of questions: from which number on methods are cheaper than their alternatives."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import cycle

from lift_eval.reporting.comparison import Comparison
from lift_eval.reporting.costs import BreakEven, Unit, all_break_evens
from lift_eval.reporting.figures.figure import Look
from lift_eval.reporting.figures.shared import (
    BASELINE_COLOUR,
    BASELINE_MARKER,
    COLOURS,
    MARKERS,
    Point,
    Shown,
    by_field,
    crowded,
    looks,
)
from lift_eval.reporting.methods import is_control
from lift_eval.reporting.table import scaled

PANELS: dict[Unit, str] = {
    "seconds": "seconds per document",
    "operations": "operations per document",
    "alone": "operations per document, each question asked by itself",
}
CURVE_POINTS = 40
"""A straight line is a curve where the axes are logarithmic."""
BEFORE, AFTER = 5.0, 5.0
"""The axis begins at the power of ten before the first crossing, and ends after the last, by at least such a factor."""
LANE = 0.07
"""Height of a line of numbers, in parts of what the curves take."""
MARKER_WIDTH, LETTER_WIDTH = 0.02, 0.012
"""In parts of a panel's width."""


def cost_by_questions(comparison: Comparison) -> Shown | None:
    """The contents of the figure: decimal logarithms of numbers of questions and of costs.

    Returns:
        None where no method has an alternative, or of many methods none pays off.
    """
    found = {unit: [one for one in all_break_evens(comparison, unit) if _known(one)] for unit in PANELS}
    others = dict.fromkeys(one.baseline for own in found.values() for one in own)
    if named := crowded(comparison):
        apart = [row.name for row in comparison.experiment.rows if is_control(comparison, row.name)]
        methods = _first_to_pay(found, {*others, *apart}, most=len(COLOURS))
        found = {unit: [one for one in own if one.row in methods] for unit, own in found.items()}
    crossed = [one.questions for own in found.values() for one in own if _crosses(one)] or [1.0]
    ends = (max(0.0, math.floor(math.log10(min(crossed) / BEFORE))), math.log10(AFTER * max(2.0, *crossed)))
    curves: list[Point] = []
    crossings: list[Point] = []
    ticks: dict[str, float] = {}
    for unit, own in found.items():
        if own:
            drawn = _curves(own, ends, PANELS[unit])
            curves += drawn
            crossings += _crossings(own, ends, drawn)
            ticks |= {scaled(tick): math.log10(tick) for tick in _ticks([point["y"] for point in drawn])}
    if not curves:
        return None
    more = {
        "ends": by_field([point for point in curves if point["x"] in ends]),
        "crossings": by_field(crossings) if crossings else None,
        "questions": {f"{tick:,.0f}": math.log10(tick) for tick in _ticks(ends)},
        "costs": ticks,
    }
    rows = list(dict.fromkeys(point["look"] for point in curves))
    return by_field(curves), _looks(rows, others) if named else looks(comparison, rows), more


def lanes(starts: Sequence[float], widths: Sequence[float]) -> list[int]:
    """The line below a panel's curves on which each number stands, from 0 on, with its crossing straight above it.

    No number covers another, and no line from a crossing down to its number passes through another number.

    Args:
        starts: Where each number begins, ascending.
        widths: What each takes.
    """
    found: list[int] = []
    for place in reversed(range(len(starts))):
        end = starts[place] + widths[place]
        within = [lane for start, lane in zip(starts[:place:-1], found, strict=True) if start < end]
        found.append(max(within, default=-1) + 1)
    return found[::-1]


def _known(found: BreakEven) -> bool:
    """Whether both costs are known, and not zero, which a logarithmic axis does not have."""
    costs = (found.fixed + found.per_question, found.baseline_fixed + found.baseline_per_question)
    return all(cost > 0 for cost in costs)  # not so of NaN


def _crosses(found: BreakEven) -> bool:
    return 0 < found.questions < math.inf


def _first_to_pay(found: Mapping[Unit, Iterable[BreakEven]], without: Container[str], most: int) -> list[str]:
    """The methods that are cheaper than any alternative from the fewest questions on, in any unit."""
    first: dict[str, float] = {}
    for own in found.values():
        for one in own:
            if _crosses(one) and one.row not in without:
                first[one.row] = min(one.questions, first.get(one.row, math.inf))
    return sorted(first, key=first.__getitem__)[:most]


def _curves(found: Sequence[BreakEven], ends: tuple[float, float], panel: str) -> list[Point]:
    """Costs of alternatives and methods by number of questions, from the axis's one end to the other."""
    costs = {one.baseline: (one.baseline_fixed, one.baseline_per_question) for one in found}
    costs |= {one.row: (one.fixed, one.per_question) for one in found}
    first, last = ends
    between = (first + (last - first) * place / CURVE_POINTS for place in range(1, CURVE_POINTS))
    numbers = [first, *between, last]
    return [
        {"panel": panel, "look": row, "x": number, "y": math.log10(fixed + each * 10**number)}
        for row, (fixed, each) in costs.items()
        for number in numbers
    ]


def _crossings(found: Iterable[BreakEven], ends: tuple[float, float], curves: Sequence[Point]) -> list[Point]:
    """Where methods become cheaper than alternatives, each with a number of questions below all curves."""
    points: list[Point] = [
        {
            "panel": curves[0]["panel"],
            "look": one.row,
            "other": one.baseline,
            "x": math.log10(max(1.0, one.questions)),
            "y": math.log10(one.fixed + one.per_question * max(1.0, one.questions)),
            "label": f"{math.ceil(one.questions):,}",
        }
        for one in sorted(found, key=lambda one: one.questions)
        if _crosses(one)
    ]
    starts = [point["x"] / (ends[1] - ends[0]) for point in points]
    widths = [MARKER_WIDTH + LETTER_WIDTH * len(point["label"]) for point in points]
    lowest, highest = (end(point["y"] for point in curves) for end in (min, max))
    for point, lane in zip(points, lanes(starts, widths), strict=True):
        point["foot"] = lowest - (highest - lowest) * LANE * (lane + 1)
    return points


def _ticks(logarithms: Sequence[float]) -> list[float]:
    """Powers of ten on an axis; where there are less than three, their doubles and fives too."""
    lowest, highest = min(logarithms), max(logarithms)
    powers = range(math.floor(lowest), math.ceil(highest) + 1)
    every, fine = (
        [
            step * 10.0**power
            for power in powers
            for step in steps
            if lowest <= math.log10(step * 10.0**power) <= highest
        ]
        for steps in ((1,), (1, 2, 5))
    )
    return every if len(every) > 2 else fine


def _looks(rows: Iterable[str], others: Container[str]) -> dict[str, Look]:
    """Looks where there are more methods than looks: alternatives are grey."""
    greys = ((BASELINE_COLOUR, marker) for marker in cycle((BASELINE_MARKER, *MARKERS)))
    colours = zip(COLOURS, MARKERS, strict=True)
    return {row: next(greys if row in others else colours) for row in rows}
