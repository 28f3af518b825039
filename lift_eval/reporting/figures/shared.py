"""What all figures' contents have in common: the looks of methods, and marks as the drawing takes them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from lift_eval.reporting.comparison import Cell, Comparison
from lift_eval.reporting.figures.figure import Look, Marks
from lift_eval.reporting.scores import BinnedScore

BASELINE_COLOUR = "#7d8590"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
CIRCLE, SQUARE, DIAMOND, TRIANGLE, TRIANGLE_DOWN, PLUS, CROSS = 21, 22, 23, 24, 25, 3, 4
BASELINE_MARKER = CIRCLE
MARKERS = (SQUARE, DIAMOND, TRIANGLE, TRIANGLE_DOWN, PLUS, CROSS)

Point: TypeAlias = dict[str, Any]
"""A mark: texts and numbers by field."""
Shown: TypeAlias = "tuple[Marks, Mapping[str, Look], Mapping[str, Any]]"
"""Marks, looks, and what else the drawing needs."""


def by_field(points: Sequence[Point]) -> Marks:
    """Marks as lists, by field."""
    return {name: [point[name] for point in points] for name in points[0]}


def interval(score: Cell | BinnedScore) -> Point:
    """The ends of a score's interval, ``low`` and ``high``; without one they are the score itself."""
    low, high = (score.value if math.isnan(end) else end for end in (score.low, score.high))
    return {"low": low, "high": high}


def ink_on(share: float, most: float) -> str:
    """An ink that can be read on a tile whose colour shows a share of the most."""
    return "#111111" if share > most / 2 else "#f5f5f5"


def looks(comparison: Comparison, rows: Iterable[str]) -> dict[str, Look]:
    """The look of each row."""
    return {row: look_of(comparison, row) for row in rows}


def look_of(comparison: Comparison, row: str) -> Look:
    """Colour and marker of a method; baselines are grey, the first one round."""
    baselines = comparison.experiment.baselines
    alike = [
        other.name for other in comparison.experiment.rows if (other.name in baselines) == (row in baselines)
    ]
    place = alike.index(row)
    if row in baselines:
        return BASELINE_COLOUR, (BASELINE_MARKER, *MARKERS)[place % (len(MARKERS) + 1)]
    return COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]


def crowded(comparison: Comparison) -> bool:
    """Whether there are more methods than looks, so that figures must name them where they are drawn."""
    found = looks(comparison, measured_rows(comparison))
    return len(set(found.values())) < len(found)


def short(name: str) -> str:
    """A name that fits above a panel."""
    return name if len(name) <= 30 else f"{name[:29]}…"


def measured_rows(comparison: Comparison) -> list[str]:
    """The methods that have a score."""
    return [
        r.name
        for r in comparison.experiment.rows
        if any(c.row == r.name and c.measured for c in comparison.cells)
    ]
