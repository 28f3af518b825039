"""How figures are drawn: by lets-plot, as SVG in one ink on nothing.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart, and every method has its own marker too.
Equal figures give equal bytes. lets-plot draws and resvg makes pixels of it: together they need a quarter of the time
that matplotlib takes for the same figures (docs/decisions/0016-figures.md).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from lets_plot import (
    aes,
    element_blank,
    element_line,
    element_text,
    expand_limits,
    facet_wrap,
    geom_band,
    geom_bar,
    geom_errorbar,
    geom_line,
    geom_point,
    geom_ribbon,
    geom_segment,
    geom_text,
    geom_tile,
    ggplot,
    ggsize,
    guide_legend,
    guides,
    labs,
    scale_color_identity,
    scale_fill_viridis,
    scale_manual,
    scale_x_continuous,
    scale_x_discrete,
    scale_x_log10,
    scale_y_continuous,
    scale_y_discrete,
    theme,
    theme_none,
)  # fmt: skip

from lift_eval.reporting.figures.figure import Figure

if TYPE_CHECKING:
    from lets_plot.plot.core import FeatureSpec, PlotSpec
    from lets_plot.plot.subplots import SupPlotsSpec

INK, DARK_INK = "#1f2328", "#e6edf3"
DARK_PAGE = "@media (prefers-color-scheme: dark)"
SVG_STYLE = f"<style>svg {{ color: {INK} }} {DARK_PAGE} {{ svg {{ color: {DARK_INK} }} }}</style>"
WIDTH = 760
"""Of every figure, in pixels."""
PANEL_HEIGHT = 210
TITLES_HEIGHT, LEGEND_LINE_HEIGHT = 64, 24
"""What titles, tick labels and a line of the legend take."""
GRID = "rgba(31,35,40,0.15)"
GRID_STROKE = 'stroke="rgb(31,35,40)" stroke-opacity="0.15" stroke-width="0.8"'
GRID_ON_PAPER = 'stroke="#dedfdf" stroke-width="0.72" shape-rendering="crispEdges"'
"""The grid in an SVG, and the same on white, a pixel wide: resvg is slow with translucent lines."""
LINE_TYPES = ("solid", "longdash", "dashed", "twodash", "dotdash", "dotted")
TEXT_SIZE = 12
LEGEND_LETTERS = 95
"""What a line of the legend has room for."""

Plot: TypeAlias = "PlotSpec | SupPlotsSpec"


def draw(figure: Figure) -> str:
    """A figure as SVG, in ink; ids and last digits of numbers are not left to chance or machine."""
    plot = _DRAWN[figure.name](figure)
    text = re.sub(r">\s*</(?:line|circle|rect|path)>", "/>", str(plot.to_svg(path=None)))
    ids = {name: f"part{number}" for number, name in enumerate(re.findall(r' id="(\w+)"', text))}
    text = re.sub(rf'([#"])({"|".join(ids)})(?=[" )])', lambda found: found[1] + ids[found[2]], text)
    # In a text element stands a name, or the label of a tick.
    parts = re.split(r"(<text.*?</text>)", text, flags=re.DOTALL)
    parts[::2] = [re.sub(r"\d+\.\d+", _shorter, part) for part in parts[::2]]
    size = re.compile(r'width="(\d+)" height="(\d+)"')
    return size.sub(r'\g<0> viewBox="0 0 \1 \2"', "".join(parts), count=1)


def on_page(picture: str) -> str:
    """A drawn figure that takes the ink of its surroundings: dark on a light page, light on a dark one."""
    opening = picture.index(">") + 1
    body = re.sub(r"#1f2328|rgb\(31,35,40\)", "currentColor", picture[opening:])
    return f"{picture[:opening]}\n  {SVG_STYLE}{body}\n"


def on_paper(picture: str) -> str:
    """A drawn figure that is to stand on white."""
    return picture.replace(GRID_STROKE, GRID_ON_PAPER)


def _shorter(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


# ------------------------------------------------------------------------------------------------------------ shared


def _panels(
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
    columns = columns or _columns(count)
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


def _columns(panels: int) -> int:
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


def _intervals(**span: str) -> FeatureSpec:
    """Whiskers from one field of the data to another."""
    return geom_errorbar(aes(**span), width=7, width_unit="px", size=0.7, show_legend=False)


def _curves(figure: Figure, *, marker_size: float = 3, line: str = "look") -> FeatureSpec:
    """Lines with markers. Where they cover each other, those below show: less broken, and with larger markers.

    Args:
        figure: Whose looks.
        marker_size: Of the marker in the middle.
        line: Field whose values are a line each.
    """
    count = len(figure.looks)
    sizes = [marker_size * (1.4 - 0.8 * place / max(count - 1, 1)) for place in range(count)]
    types = [LINE_TYPES[place % len(LINE_TYPES)] for place in range(count)]
    return (
        geom_line(aes(linetype="look", group=line), size=1)
        + geom_point(aes(size="look"))
        + scale_manual("linetype", types, limits=list(figure.looks), guide="none")
        + scale_manual("size", sizes, limits=list(figure.looks), guide="none")
    )


def _band() -> FeatureSpec:
    """A shade from the data's ``low`` to its ``high``."""
    return geom_ribbon(aes(ymin="low", ymax="high"), alpha=0.15, size=0, show_legend=False)


def _thousands() -> FeatureSpec:
    """An axis of tokens: 500, 2k, 16k."""
    return scale_x_continuous(format="~s")


def _whole_numbers(figure: Figure) -> FeatureSpec:
    """An axis of steps or layers, with at most a dozen ticks."""
    first, last = int(min(figure.marks["x"])), int(max(figure.marks["x"]))
    step = next(one for one in (1, 2, 5, 10, 20, 50, 100, last) if last - first <= 12 * one)
    return scale_x_continuous(breaks=[place for place in range(first, last + 1) if place % step == 0])


# ------------------------------------------------------------------------------------------------------------ scores


def _scores(figure: Figure) -> Plot:
    labels, named = figure.more["labels"], "panel" in figure.marks
    height = 20 * len(labels) if named else (20 * len(figure.looks) + 15) * len(labels)
    return (
        _panels(figure, height=height, legend=not named, scales="free_x" if named else "fixed")
        + _intervals(xmin="low", xmax="high")
        + geom_point(size=3)
        + scale_y_continuous(
            breaks=list(range(len(labels))),
            labels=labels,
            limits=[len(labels) - 0.5, -0.5],
            trans="reverse",
            expand=[0, 0],
        )
        + theme(panel_grid_major_y=element_blank())
        + labs(x=figure.marks["panel"][0] if named and figure.panels() == 1 else "score", y="")
    )


def _places(figure: Figure) -> Plot:
    if "across" in figure.more:
        return _score_map(figure) + labs(x="position of the answer in the document", y="")
    plot, ticks = _panels(figure), figure.more["ticks"]
    if "cut" in figure.more:
        plot += geom_band(
            aes(xmin="from", xmax="to"),
            data=figure.more["cut"],
            inherit_aes=False,
            fill=INK,
            alpha=0.06,
            size=0,
        )
    return (
        plot
        + _intervals(ymin="low", ymax="high")
        + _curves(figure, line="line")
        + scale_x_continuous(
            breaks=list(ticks.values()), labels=list(ticks), limits=[0, len(ticks) / 3], expand=[0, 0]
        )
        + theme(panel_grid_major_x=element_blank())
        + labs(x="position of the answer in the document", y="score")
    )


def _length(figure: Figure) -> Plot:
    if "across" in figure.more:
        return _score_map(figure) + labs(x="documents by length", y="")
    return (
        _panels(figure, scales="free_x")
        + _intervals(ymin="low", ymax="high")
        + _curves(figure)
        + _thousands()
        + labs(x="document length in tokens", y="score")
    )


def _needle(figure: Figure) -> Plot:
    return _score_map(figure, PANEL_HEIGHT) + labs(x="text length in tokens", y="needle depth")


def _score_map(figure: Figure, height: int | None = None) -> PlotSpec:
    """Panels of coloured tiles with their scores; a line of tiles is 20 pixels high if panels have no height."""
    count = figure.panels()
    columns = _columns(count) if height else min(2, count)
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


# ------------------------------------------------------------------------------------------------------------- costs


def _losses(figure: Figure) -> Plot:
    named = "panel" in figure.marks
    return (
        _panels(figure, height=140 if named else 230, legend=not named, scales="free_x" if named else "fixed")
        + _band()
        + _curves(figure, marker_size=1 if named else 2)
        + (scale_x_continuous(format="d") if named else _whole_numbers(figure))
        + expand_limits(y=0)
        + labs(x="optimizer step", y="loss per supervised token")
    )


def _seconds(figure: Figure) -> Plot:
    return _by_stage(figure) + labs(x="document length in tokens", y="seconds")


def _document_memory(figure: Figure) -> Plot:
    return _by_stage(figure) + labs(x="document length in tokens", y="GiB")


def _by_stage(figure: Figure) -> PlotSpec:
    return (
        _panels(figure, scales="free")
        + geom_point(size=3, alpha=0.75)
        + expand_limits(x=0, y=0)
        + _thousands()
    )


def _memory(figure: Figure) -> Plot:
    return (
        _panels(figure, height=30 * len(figure.marks["y"]))
        + geom_bar(stat="identity", orientation="y", width=0.6, size=0, show_legend=False)
        + scale_x_continuous(expand=[0, 0])
        + theme(panel_grid_major_y=element_blank())
        + labs(x="GiB", y="")
    )


def _break_even(figure: Figure) -> Plot:
    plot = _panels(figure, height=230) + _curves(figure)
    if crossings := figure.more["crossings"]:
        foot: dict[str, Any] = {"data": crossings, "show_legend": False}
        plot += geom_segment(aes(xend="x", yend="foot"), linetype="dotted", **foot)
        plot += geom_text(aes(y="foot", label="label"), hjust=0, vjust=0, size=6, **foot)
    return (
        plot
        + expand_limits(y=0)
        + scale_x_continuous(limits=[0, figure.more["last"]])
        + labs(x="questions per document", y="seconds")
    )


def _score_preparation(figure: Figure) -> Plot:
    return _front(figure) + labs(x="operations before the first answer", y="score")


def _score_stored(figure: Figure) -> Plot:
    return _front(figure) + labs(x="bytes stored per document", y="score")


def _front(figure: Figure) -> PlotSpec:
    line = geom_line(
        aes("x", "y"), data=figure.more["front"], inherit_aes=False, color=INK, alpha=0.4, linetype="dashed"
    )
    if figure.more["named"]:
        plot, mark = _panels(figure, height=220, columns=1, scales="free_y"), geom_point(size=2.5)
        number = aes(y="beside", label="number")
        mark += geom_text(number, hjust=0, nudge_x=5, nudge_unit="px", size=6, show_legend=False)
    else:
        plot, mark = _panels(figure), geom_point(size=4)
    return plot + line + _intervals(ymin="low", ymax="high") + mark + scale_x_log10(format=".2~s")


def _gates(figure: Figure) -> Plot:
    return (
        _panels(figure)
        + _band()
        + _curves(figure)
        + _whole_numbers(figure)
        + scale_y_continuous(limits=[0, 1])
        + labs(x="layer", y="mean gate")
    )


_DRAWN: dict[str, Callable[[Figure], Plot]] = {
    "scores": _scores,
    "places": _places,
    "length": _length,
    "needle": _needle,
    "losses": _losses,
    "costs": _seconds,
    "document-memory": _document_memory,
    "memory": _memory,
    "break-even": _break_even,
    "score-preparation": _score_preparation,
    "score-stored": _score_stored,
    "gates": _gates,
}
