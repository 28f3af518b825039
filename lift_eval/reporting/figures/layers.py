"""What several figures are drawn with: panels and their legend, curves, intervals, axes, and maps of scores."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lets_plot import (
    aes,
    element_blank,
    element_line,
    element_text,
    facet_wrap,
    geom_errorbar,
    geom_line,
    geom_point,
    geom_ribbon,
    geom_text,
    geom_tile,
    ggplot,
    ggsize,
    guide_legend,
    guides,
    scale_color_identity,
    scale_fill_viridis,
    scale_manual,
    scale_x_continuous,
    scale_x_discrete,
    scale_y_discrete,
    theme,
    theme_none,
)  # fmt: skip

from lift_eval.reporting.figures.figure import Figure, Marks

if TYPE_CHECKING:
    from lets_plot.plot.core import FeatureSpec, PlotSpec

INK = "#1f2328"
WIDTH = 760
"""Of every figure, in pixels."""
PANEL_HEIGHT = 210
TITLES_HEIGHT, LEGEND_LINE_HEIGHT = 64, 24
"""What titles, tick labels and a line of the legend take."""
GRID = "rgba(31,35,40,0.15)"
LINE_TYPES = ("solid", "longdash", "dashed", "twodash", "dotdash", "dotted")
TEXT_SIZE = 12
LEGEND_LETTERS = 95
"""What a line of the legend has room for."""


def panels(
    figure: Figure,
    *,
    height: int = PANEL_HEIGHT,
    scales: str = "fixed",
    legend: bool = True,
    columns: int | None = None,
) -> PlotSpec:
    """A plot without layers: panels beside each other, one legend above them, looks by name.

    Args:
        figure: Whose data and looks.
        height: Of a panel, in pixels.
        scales: Which axes differ between panels, as lets-plot calls them.
        legend: Whether there is one.
        columns: Panels in a row. None means as many as fit.
    """
    looks, count = figure.looks, figure.panels()
    columns = columns or panel_columns(count)
    # A marker takes the room of some five letters.
    entries = len(looks) if sum(5 + len(name) for name in looks) <= LEGEND_LETTERS else 2
    colours, markers = zip(*looks.values(), strict=True)
    guide = guide_legend(ncol=entries) if legend else "none"
    plot = (
        ggplot(figure.marks, aes("x", "y", color="look", fill="look", shape="look"))
        + scale_manual(["color", "fill"], list(colours), limits=list(looks))
        + scale_manual("shape", list(markers), limits=list(looks))
        + guides(color=guide, fill=guide, shape=guide)
        + _theme()
    )
    if count > 1:
        plot += facet_wrap("panel", ncol=columns, order=0, scales=scales)
    legend_height = LEGEND_LINE_HEIGHT * math.ceil(len(looks) / entries) if legend else 0
    return plot + ggsize(WIDTH, TITLES_HEIGHT + legend_height + height * math.ceil(count / columns))


def panel_columns(panels: int) -> int:
    """How many panels stand beside each other."""
    return 2 if panels in (2, 4) else min(3, panels)


def _theme() -> FeatureSpec:
    none, line = element_blank(), element_line(color=INK, size=0.8)
    text = element_text(color=INK, size=TEXT_SIZE)
    return theme_none() + theme(
        text=text,
        title=text,
        axis_title=text,
        axis_text=text,
        plot_title=text,
        legend_text=text,
        strip_text=element_text(color=INK, size=TEXT_SIZE, hjust=0),
        axis_line=line,
        axis_ticks=line,
        panel_grid_major=element_line(color=GRID, size=0.8),
        panel_grid_minor=none,
        plot_background=none,
        panel_background=none,
        strip_background=none,
        legend_background=none,
        legend_title=none,
        legend_position="top",
        legend_justification=[0, 1],
        panel_spacing=18,
        plot_margin=[2, 14, 2, 2],
    )


def intervals(**span: str) -> FeatureSpec:
    """Whiskers from one field of the data to another."""
    return geom_errorbar(aes(**span), width=7, width_unit="px", size=0.7, show_legend=False)


def curves(
    figure: Figure, *, marker_size: float = 3, line: str = "look", markers: Marks | None = None
) -> FeatureSpec:
    """Lines with markers. Where they cover each other, those below show: less broken, and with larger markers.

    Args:
        figure: Whose looks.
        marker_size: Of the marker in the middle.
        line: Field whose values are a line each.
        markers: Where markers stand. None means at each of the figure's marks.
    """
    count = len(figure.looks)
    sizes = [marker_size * (1.4 - 0.8 * place / max(count - 1, 1)) for place in range(count)]
    types = [LINE_TYPES[place % len(LINE_TYPES)] for place in range(count)]
    return (
        geom_line(aes(linetype="look", group=line), size=1)
        + geom_point(aes(size="look"), data=markers)
        + scale_manual("linetype", types, limits=list(figure.looks), guide="none")
        + scale_manual("size", sizes, limits=list(figure.looks), guide="none")
    )


def band() -> FeatureSpec:
    """A shade from the data's ``low`` to its ``high``."""
    return geom_ribbon(aes(ymin="low", ymax="high"), alpha=0.15, size=0, show_legend=False)


def thousands() -> FeatureSpec:
    """An axis of tokens: 500, 2k, 16k."""
    return scale_x_continuous(format="~s")


def whole_numbers(figure: Figure) -> FeatureSpec:
    """An axis of steps or layers, with at most a dozen ticks."""
    first, last = int(min(figure.marks["x"])), int(max(figure.marks["x"]))
    step = next(one for one in (1, 2, 5, 10, 20, 50, 100, last) if last - first <= 12 * one)
    return scale_x_continuous(breaks=[place for place in range(first, last + 1) if place % step == 0])


def score_map(figure: Figure, height: int | None = None) -> PlotSpec:
    """Panels of coloured tiles with their scores; a line of tiles is 20 pixels high if panels have no height."""
    count = figure.panels()
    columns = panel_columns(count) if height else min(2, count)
    height = height or 20 * len(figure.more["upwards"]) + 20
    plot = ggplot(figure.marks, aes("x", "y")) + _theme()
    if count > 1:
        plot += facet_wrap("panel", ncol=columns, order=0)
    return (
        plot
        + geom_tile(aes(fill="share"), show_legend=False)
        + geom_text(aes(label="label", color="ink"), size=6, show_legend=False)
        + scale_fill_viridis(option="cividis", limits=[0, figure.more["most"]])
        + scale_color_identity()
        + scale_x_discrete(limits=figure.more["across"], expand=[0, 0])
        + scale_y_discrete(limits=figure.more["upwards"], expand=[0, 0])
        + theme(panel_grid=element_blank())
        + ggsize(WIDTH, TITLES_HEIGHT + height * math.ceil(count / columns))
    )
