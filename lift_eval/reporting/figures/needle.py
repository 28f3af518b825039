"""The needle map: what share of the needles each method finds, by length of the text and depth of the needle."""

from __future__ import annotations

import pandas as pd

from lift_eval.reporting.comparison import Comparison
from lift_eval.reporting.figures.shared import Shown, ink_on, measured_rows, short

MOST = 100.0
"""The share of needles that are all of them."""


def needle_map(comparison: Comparison) -> Shown | None:
    """The contents of the figure; None without needles."""
    found = needle_shares(comparison)
    if found.empty:
        return None
    order = {
        "across": found.sort_values("length").x.unique().tolist(),
        "upwards": found.sort_values("depth", ascending=False).y.unique().tolist(),
        "most": MOST,
    }
    return {str(name): values.tolist() for name, values in found.items()}, {}, order


def needle_shares(comparison: Comparison) -> pd.DataFrame:
    """Share of the needles found, 0 to 100, by method, length of the text and depth of the needle.

    Returns:
        Fields ``panel`` (the method), ``length`` and ``depth``, ``x`` and ``y`` (the same in words), ``share``,
        ``label`` (the share in words) and ``ink`` (what can be read on the share's colour).
    """
    scores = comparison.scores[comparison.scores.length.notna() & comparison.scores.depth.notna()]
    scales = {column.label: column.scale or 1.0 for column in comparison.experiment.columns}
    cells = []
    for row in measured_rows(comparison):
        own = scores[scores.row == row]
        if own.empty:
            continue
        column = own.column.iloc[0]
        sums = own[own.column == column].groupby(["depth", "length"])[["numerator", "denominator"]].sum()
        for (depth, length), share in (scales[column] * sums.numerator / sums.denominator).items():
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
    return pd.DataFrame(cells)
