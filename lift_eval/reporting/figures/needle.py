"""The needle map: what share of the needles each method finds, by length of the text and depth of the needle."""

from __future__ import annotations

import math
from collections import defaultdict

from lift_eval.reporting.comparison import Comparison
from lift_eval.reporting.figures.shared import Point, Shown, by_field, ink_on, measured_rows, short
from lift_eval.reporting.scores import QuestionScore

MOST = 100.0
"""The share of needles that are all of them."""


def needle_map(comparison: Comparison) -> Shown | None:
    """The contents of the figure; None without needles."""
    found = needle_shares(comparison)
    if not found:
        return None
    across, upwards = (sorted(found, key=lambda point: point[name]) for name in ("length", "depth"))
    order = {
        "across": list(dict.fromkeys(point["x"] for point in across)),
        "upwards": list(dict.fromkeys(point["y"] for point in reversed(upwards))),
        "most": MOST,
    }
    return by_field(found), {}, order


def needle_shares(comparison: Comparison) -> list[Point]:
    """Share of the needles found, 0 to 100, by method, length of the text and depth of the needle.

    Returns:
        Fields ``panel`` (the method), ``length`` and ``depth``, ``x`` and ``y`` (the same in words), ``share``,
        ``label`` (the share in words) and ``ink`` (what can be read on the share's colour).
    """
    cells: list[Point] = []
    for row in measured_rows(comparison):
        for column in comparison.experiment.columns:
            needles: defaultdict[tuple[float, int], list[QuestionScore]] = defaultdict(list)
            for one in comparison.scores.get((row, column.label), ()):
                if one.depth is not None and one.length is not None:
                    needles[one.depth, one.length].append(one)
            if needles:  # a method's first column with needles
                break
        for (depth, length), own in sorted(needles.items()):
            total = math.fsum(one.denominator for one in own)
            share = (column.scale or 1.0) * math.fsum(one.numerator for one in own) / total
            cells.append(
                {
                    "panel": short(row),
                    "length": length,
                    "depth": depth,
                    "x": f"{length / 1000:g}k" if length >= 1000 else f"{length:g}",
                    "y": f"{100 * depth:.0f} %",
                    "share": share,
                    "label": f"{share:.0f}",
                    "ink": ink_on(share, MOST),
                }
            )
    return cells
