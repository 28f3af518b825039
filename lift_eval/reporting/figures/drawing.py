"""How figures are drawn: by lets-plot, as SVG in one ink on nothing.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart, and every method has its own marker too.
Equal figures give equal bytes. lets-plot draws and resvg makes pixels of it: together they need a quarter of the time
that matplotlib takes for the same figures (docs/decisions/0016-figures.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from lets_plot import (
    aes,
    element_blank,
    expand_limits,
    geom_band,
    geom_bar,
    geom_line,
    geom_point,
    geom_segment,
    geom_text,
    labs,
    scale_x_continuous,
    scale_x_log10,
    scale_y_continuous,
    theme,
)  # fmt: skip

from lift_eval.reporting.figures.figure import Figure
from lift_eval.reporting.figures.layers import (
    INK,
    PANEL_HEIGHT,
    band,
    curves,
    intervals,
    panels,
    score_map,
    thousands,
    whole_numbers,
)

if TYPE_CHECKING:
    from lets_plot.plot.core import PlotSpec
    from lets_plot.plot.subplots import SupPlotsSpec

DARK_INK = "#e6edf3"
DARK_PAGE = "@media (prefers-color-scheme: dark)"
SVG_STYLE = f"<style>svg {{ color: {INK} }} {DARK_PAGE} {{ svg {{ color: {DARK_INK} }} }}</style>"
GRID_STROKE = 'stroke="rgb(31,35,40)" stroke-opacity="0.15" stroke-width="0.8"'
GRID_ON_PAPER = 'stroke="#dedfdf" stroke-width="0.72" shape-rendering="crispEdges"'
"""The grid in an SVG, and the same on white, a pixel wide: resvg is slow with translucent lines."""

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


# ------------------------------------------------------------------------------------------------------------ scores


def _scores(figure: Figure) -> Plot:
    labels, named = figure.more["labels"], "panel" in figure.marks
    height = 20 * len(labels) if named else (20 * len(figure.looks) + 15) * len(labels)
    return (
        panels(figure, height=height, legend=not named, scales="free_x" if named else "fixed")
        + intervals(xmin="low", xmax="high")
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
        return score_map(figure) + labs(x="position of the answer in the document", y="")
    plot, ticks = panels(figure), figure.more["ticks"]
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
        + intervals(ymin="low", ymax="high")
        + curves(figure, line="line")
        + scale_x_continuous(
            breaks=list(ticks.values()), labels=list(ticks), limits=[0, len(ticks) / 3], expand=[0, 0]
        )
        + theme(panel_grid_major_x=element_blank())
        + labs(x="position of the answer in the document", y="score")
    )


def _length(figure: Figure) -> Plot:
    if "across" in figure.more:
        return score_map(figure) + labs(x="documents by length", y="")
    return (
        panels(figure, scales="free_x")
        + intervals(ymin="low", ymax="high")
        + curves(figure)
        + thousands()
        + labs(x="document length in tokens", y="score")
    )


def _needle(figure: Figure) -> Plot:
    return score_map(figure, PANEL_HEIGHT) + labs(x="text length in tokens", y="needle depth")


# ------------------------------------------------------------------------------------------------------------- costs


def _losses(figure: Figure) -> Plot:
    named = "panel" in figure.marks
    return (
        panels(figure, height=140 if named else 230, legend=not named, scales="free_x" if named else "fixed")
        + band()
        + curves(figure, marker_size=1 if named else 2)
        + (scale_x_continuous(format="d") if named else whole_numbers(figure))
        + expand_limits(y=0)
        + labs(x="optimizer step", y="loss per supervised token")
    )


def _seconds(figure: Figure) -> Plot:
    return _by_stage(figure) + labs(x="document length in tokens", y="seconds")


def _document_memory(figure: Figure) -> Plot:
    return _by_stage(figure) + labs(x="document length in tokens", y="GiB")


def _by_stage(figure: Figure) -> PlotSpec:
    return (
        panels(figure, scales="free") + geom_point(size=3, alpha=0.75) + expand_limits(x=0, y=0) + thousands()
    )


def _memory(figure: Figure) -> Plot:
    return (
        panels(figure, height=30 * len(figure.marks["y"]))
        + geom_bar(stat="identity", orientation="y", width=0.6, size=0, show_legend=False)
        + scale_x_continuous(expand=[0, 0])
        + theme(panel_grid_major_y=element_blank())
        + labs(x="GiB", y="")
    )


def _break_even(figure: Figure) -> Plot:
    panel, questions, costs = figure.marks["panel"][0], figure.more["questions"], figure.more["costs"]
    plot = panels(figure, height=300, columns=1, scales="free_y") + curves(
        figure, markers=figure.more["ends"]
    )
    if crossings := figure.more["crossings"]:
        layer: dict[str, Any] = {"data": crossings, "show_legend": False}
        plot += geom_segment(aes(xend="x", yend="foot"), linetype="dotted", **layer)
        plot += geom_point(aes(shape="other"), size=2, **layer)
        plot += geom_point(aes(y="foot", shape="other"), size=2, **layer)
        number = aes(y="foot", label="label")
        plot += geom_text(number, hjust=0, nudge_x=5, nudge_unit="px", size=6, **layer)
    return (
        plot
        + scale_x_continuous(breaks=list(questions.values()), labels=list(questions))
        + scale_y_continuous(breaks=list(costs.values()), labels=list(costs))
        + theme(panel_grid_major_x=element_blank())
        + labs(
            x="questions per document", y=panel if figure.panels() == 1 else "", color="", fill="", shape=""
        )
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
        plot, mark = panels(figure, height=220, columns=1, scales="free_y"), geom_point(size=2.5)
        number = aes(y="beside", label="number")
        mark += geom_text(number, hjust=0, nudge_x=5, nudge_unit="px", size=6, show_legend=False)
    else:
        plot, mark = panels(figure), geom_point(size=4)
    return plot + line + intervals(ymin="low", ymax="high") + mark + scale_x_log10(format=".2~s")


def _gates(figure: Figure) -> Plot:
    return (
        panels(figure)
        + band()
        + curves(figure)
        + whole_numbers(figure)
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
