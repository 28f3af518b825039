"""The figures of a report, as SVG and PNG.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart, and every method has its own marker too.
An SVG takes the ink of its surroundings: dark on a light page, light on a dark one. Equal inputs give equal bytes.

lets-plot draws and resvg makes pixels of it: together they need a quarter of the time that matplotlib takes for the
same figures (docs/decisions/0016-figures.md).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from lift_eval.reporting import statistics
from lift_eval.reporting.comparison import STAGES, Comparison
from lift_eval.reporting.experiment import Column
from lift_eval.reporting.pixels import Painter
from lift_eval.reporting.tables import break_evens, peak_memory

if TYPE_CHECKING:
    from lets_plot.plot.core import FeatureSpec, PlotSpec
    from lets_plot.plot.subplots import SupPlotsSpec

INK, DARK_INK = "#1f2328", "#e6edf3"
DARK_PAGE = "@media (prefers-color-scheme: dark)"
SVG_STYLE = f"<style>svg {{ color: {INK} }} {DARK_PAGE} {{ svg {{ color: {DARK_INK} }} }}</style>"
BASELINE_COLOUR = "#7d8590"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
CIRCLE, SQUARE, DIAMOND, TRIANGLE, TRIANGLE_DOWN, PLUS, CROSS = 21, 22, 23, 24, 25, 3, 4
BASELINE_MARKER = CIRCLE
MARKERS = (SQUARE, DIAMOND, TRIANGLE, TRIANGLE_DOWN, PLUS, CROSS)
STAGE_STYLES = {
    "synthesis": ("#cc79a7", TRIANGLE),
    "training": ("#d55e00", SQUARE),
    "answering": ("#0072b2", CIRCLE),
}
STAGE_NAMES = dict(zip(STAGES, STAGE_STYLES, strict=True))
WIDTH = 760
"""Of every figure, in pixels."""
PANEL_HEIGHT = 210
TITLES_HEIGHT, LEGEND_LINE_HEIGHT = 64, 24
"""What titles, tick labels and a line of the legend take."""
GRID = "rgba(31,35,40,0.15)"
GRID_STROKE = 'stroke="rgb(31,35,40)" stroke-opacity="0.15" stroke-width="0.8"'
GRID_ON_PAPER = 'stroke="#dedfdf" stroke-width="0.72" shape-rendering="crispEdges"'
"""How the grid stands in an SVG, and the same on white, a pixel wide: resvg takes long for lines to be seen through."""
TEXT_SIZE = 12
LEGEND_LETTERS = 95
"""What a line of the legend has room for."""
RESAMPLES = 2_000
DEPTH_EDGES = np.linspace(0, 1, 6)
LENGTH_BINS = 5
MOST_PANELS = 6


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Attributes:
        name: Its file name without ending.
        title: Its heading.
        caption: How to read it; also what a screen reader says.
        svg: The file.
        pixels: The PNG, as soon as it is made.
    """

    name: str
    title: str
    caption: str
    svg: bytes
    pixels: Future[bytes] = field(compare=False)

    @property
    def png(self) -> bytes:
        """The file; waits for it."""
        return self.pixels.result()


Look: TypeAlias = tuple[str, int]
"""Colour and marker, as lets-plot numbers them."""
Plot: TypeAlias = "PlotSpec | SupPlotsSpec"
Draw: TypeAlias = Callable[[Comparison], "Plot | None"]


def draw_all(comparison: Comparison) -> list[Drawing]:
    """Draw every figure that the runs have the data for."""
    drawings = []
    with Painter() as painter:
        for name, (title, caption, draw) in FIGURES.items():
            plot = draw(comparison)
            if plot is not None:
                picture = _picture(plot)
                pixels = painter.paint(picture.replace(GRID_STROKE, GRID_ON_PAPER))
                drawings.append(Drawing(name, title, caption, _svg(picture), pixels))
    return drawings


def _picture(plot: Plot) -> str:
    """A plot as SVG in ink on nothing; ids and last digits of numbers are not left to chance or machine."""
    text = re.sub(r">\s*</(?:line|circle|rect|path)>", "/>", str(plot.to_svg(path=None)))
    ids = {name: f"part{number}" for number, name in enumerate(re.findall(r' id="(\w+)"', text))}
    text = re.sub(rf'([#"])({"|".join(ids)})(?=[" )])', lambda found: found[1] + ids[found[2]], text)
    # In a text element stands a name, or the label of a tick.
    parts = re.split(r"(<text.*?</text>)", text, flags=re.DOTALL)
    parts[::2] = [re.sub(r"\d+\.\d+", _shorter, part) for part in parts[::2]]
    size = re.compile(r'width="(\d+)" height="(\d+)"')
    return size.sub(r'\g<0> viewBox="0 0 \1 \2"', "".join(parts), count=1)


def _shorter(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _svg(picture: str) -> bytes:
    opening = picture.index(">") + 1
    body = re.sub(r"#1f2328|rgb\(31,35,40\)", "currentColor", picture[opening:])
    return f"{picture[:opening]}\n  {SVG_STYLE}{body}\n".encode()


# ------------------------------------------------------------------------------------------------------------ shared


def _panels(
    data: pd.DataFrame,
    looks: Mapping[str, Look],
    *,
    height: int = PANEL_HEIGHT,
    scales: str = "fixed",
) -> PlotSpec:
    """A plot without layers: panels beside each other, one legend above them, looks by name.

    Args:
        data: What its layers show. ``look`` names the look, and ``panel``, where it stands, the panel.
        looks: Of everything in the data, in the legend's order.
        height: Of a panel, in pixels.
        scales: Which axes differ between panels, as lets-plot calls them.
    """
    from lets_plot import aes, facet_wrap, ggplot, ggsize, guide_legend, guides, scale_manual

    count = data.panel.nunique() if "panel" in data else 1
    columns = 2 if count in (2, 4) else min(3, count)
    # A marker takes the room of some five letters.
    entries = len(looks) if sum(5 + len(name) for name in looks) <= LEGEND_LETTERS else 2
    colours, markers = zip(*looks.values(), strict=True)
    legend = guide_legend(ncol=entries)
    plot = (
        ggplot(data, aes("x", "y", color="look", fill="look", shape="look"))
        + scale_manual(["color", "fill"], list(colours), limits=list(looks))
        + scale_manual("shape", list(markers), limits=list(looks))
        + guides(color=legend, fill=legend, shape=legend)
        + _theme()
    )
    if count > 1:
        plot += facet_wrap("panel", ncol=columns, order=0, scales=scales)
    legend_height = LEGEND_LINE_HEIGHT * math.ceil(len(looks) / entries)
    return plot + ggsize(WIDTH, TITLES_HEIGHT + legend_height + height * math.ceil(count / columns))


def _theme() -> FeatureSpec:
    from lets_plot import element_blank, element_line, element_text, theme, theme_none

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
    from lets_plot import aes, geom_errorbar

    return geom_errorbar(aes(**span), width=7, width_unit="px", size=0.7, show_legend=False)


def _curves(*, marker_size: float = 3) -> FeatureSpec:
    from lets_plot import geom_line, geom_point

    return geom_line(size=1) + geom_point(size=marker_size)


def _band() -> FeatureSpec:
    """A shade from the data's ``low`` to its ``high``."""
    from lets_plot import aes, geom_ribbon

    return geom_ribbon(aes(ymin="low", ymax="high"), alpha=0.15, size=0, show_legend=False)


def _looks(comparison: Comparison, rows: Sequence[str]) -> dict[str, Look]:
    return {row: _look(comparison, row) for row in rows}


def _look(comparison: Comparison, row: str) -> Look:
    """Colour and marker of a method; baselines are grey, the first one round."""
    baselines = comparison.experiment.baselines
    alike = [
        other.name for other in comparison.experiment.rows if (other.name in baselines) == (row in baselines)
    ]
    place = alike.index(row)
    if row in baselines:
        return BASELINE_COLOUR, (BASELINE_MARKER, *MARKERS)[place % (len(MARKERS) + 1)]
    return COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]


def _short(name: str) -> str:
    """A name that fits above a panel."""
    return name if len(name) <= 30 else f"{name[:29]}…"


def _measured_rows(comparison: Comparison) -> list[str]:
    return [
        r.name
        for r in comparison.experiment.rows
        if any(c.row == r.name and c.measured for c in comparison.cells)
    ]


# ------------------------------------------------------------------------------------------------------------ scores


def _draw_scores(comparison: Comparison) -> Plot | None:
    from lets_plot import element_blank, geom_point, labs, scale_y_continuous, theme

    rows, columns = _measured_rows(comparison), comparison.experiment.columns
    if not rows:
        return None
    step = 0.7 / max(len(rows), 2)
    marks = [
        {
            "look": row,
            "x": cell.value,
            "y": place + (index - (len(rows) - 1) / 2) * step,
            "low": cell.value if math.isnan(cell.low) else cell.low,
            "high": cell.value if math.isnan(cell.high) else cell.high,
        }
        for index, row in enumerate(rows)
        for place, column in enumerate(columns)
        if (cell := comparison.cell(row, column.label)).measured
    ]
    height = (20 * len(rows) + 15) * len(columns)
    return (
        _panels(pd.DataFrame(marks), _looks(comparison, rows), height=height)
        + _intervals(xmin="low", xmax="high")
        + geom_point(size=3)
        + scale_y_continuous(
            breaks=list(range(len(columns))),
            labels=[column.label for column in columns],
            limits=[len(columns) - 0.5, -0.5],
            trans="reverse",
            expand=[0, 0],
        )
        + theme(panel_grid_major_y=element_blank())
        + labs(x="score", y="")
    )


# -------------------------------------------------------------------------------------------- where LIFT should win


def _binned(frame: pd.DataFrame, bins: np.ndarray[Any, Any], scale: float) -> dict[int, dict[str, float]]:
    """Score ``y`` and interval, ``low`` to ``high``, of the questions in each bin that has any."""
    points = {}
    codes, _ = pd.factorize(frame.document)
    tops, bottoms = (frame[name].to_numpy() for name in ("numerator", "denominator"))
    for place in np.unique(bins):
        inside = bins == place
        _, documents = np.unique(codes[inside], return_inverse=True)
        numerators, denominators = (
            np.bincount(documents, values[inside])[None, :].astype(np.float64) for values in (tops, bottoms)
        )
        value = scale * statistics.mean_of_ratios(numerators, denominators)
        span = statistics.bootstrap_interval(numerators, denominators, resamples=RESAMPLES)
        low, high = (value if math.isnan(end) else scale * end for end in (span.low, span.high))
        points[int(place)] = {"y": value, "low": low, "high": high}
    return points


def _whole_columns(comparison: Comparison) -> list[Column]:
    """The columns over all questions of their tasks; those by type repeat the same questions."""
    return [column for column in comparison.experiment.columns if column.type is None][:MOST_PANELS]


def _score_curves(comparison: Comparison, points: list[dict[str, Any]], scales: str) -> PlotSpec:
    """Curves of scores with their intervals, one panel for each column."""
    drawn = {point["look"] for point in points}
    looks = _looks(comparison, [row for row in _measured_rows(comparison) if row in drawn])
    return _panels(pd.DataFrame(points), looks, scales=scales)


def _draw_depth(comparison: Comparison) -> Plot | None:
    from lets_plot import aes, geom_band, labs, scale_x_continuous

    scores = comparison.scores[comparison.scores.depth.notna() & comparison.scores.length.isna()]
    middles = (DEPTH_EDGES[:-1] + DEPTH_EDGES[1:]) / 2
    points = []
    for column in _whole_columns(comparison):
        for row in _measured_rows(comparison):
            own = scores[(scores.column == column.label) & (scores.row == row)]
            bins = np.clip(np.digitize(own.depth, DEPTH_EDGES) - 1, 0, len(middles) - 1)
            points += [
                {"panel": column.label, "look": row, "x": float(middles[place]), **point}
                for place, point in _binned(own, bins, column.scale or 1.0).items()
            ]
    if not points:
        return None
    plot = _score_curves(comparison, points, "fixed")
    recorded = comparison.documents[comparison.documents.row == comparison.experiment.baseline]
    if len(recorded) and (kept := float(recorded.kept.mean())) < 1:
        cut = pd.DataFrame({"from": [kept / 2], "to": [1 - kept / 2]})
        plot += geom_band(
            aes(xmin="from", xmax="to"), data=cut, inherit_aes=False, fill=INK, alpha=0.06, size=0
        )
    return (
        plot
        + _intervals(ymin="low", ymax="high")
        + _curves()
        + scale_x_continuous(limits=[0, 1], expand=[0, 0])
        + labs(x="depth of the evidence", y="score")
    )


def _draw_length(comparison: Comparison) -> Plot | None:
    from lets_plot import labs

    lengths = comparison.documents.drop_duplicates("digest").set_index("digest").tokens
    scores = comparison.scores[comparison.scores.length.isna()]
    scores = scores.assign(tokens=scores.document.map(lengths)).dropna(subset=["tokens"])
    points = []
    for column in _whole_columns(comparison):
        of_column = scores[scores.column == column.label]
        if of_column.tokens.nunique() < LENGTH_BINS:
            continue
        known = of_column.drop_duplicates("document").tokens.to_numpy(dtype=float)
        edges = np.quantile(known, np.linspace(0, 1, LENGTH_BINS + 1))
        for row in _measured_rows(comparison):
            own = of_column[of_column.row == row]
            tokens = own.tokens.to_numpy(dtype=float)
            bins = np.clip(np.searchsorted(edges, tokens, side="right") - 1, 0, LENGTH_BINS - 1)
            points += [
                {"panel": column.label, "look": row, "x": float(tokens[bins == place].mean()), **point}
                for place, point in _binned(own, bins, column.scale or 1.0).items()
            ]
    if not points:
        return None
    return (
        _score_curves(comparison, points, "free_x")
        + _intervals(ymin="low", ymax="high")
        + _curves()
        + _thousands()
        + labs(x="tokens of the document", y="score")
    )


def _thousands() -> FeatureSpec:
    """An axis of tokens: 500, 2k, 16k."""
    from lets_plot import scale_x_continuous

    return scale_x_continuous(format="~s")


def _draw_needle(comparison: Comparison) -> Plot | None:
    found = needle_shares(comparison)
    if found.empty:
        return None
    from lets_plot import (
        aes,
        element_blank,
        facet_wrap,
        geom_text,
        geom_tile,
        ggplot,
        ggsize,
        labs,
        scale_color_identity,
        scale_fill_viridis,
        scale_x_discrete,
        scale_y_discrete,
        theme,
    )  # fmt: skip

    count = found.panel.nunique()
    columns = 2 if count in (2, 4) else min(3, count)
    plot = ggplot(found, aes("x", "y")) + _theme()
    if count > 1:
        plot += facet_wrap("panel", ncol=columns, order=0)
    return (
        plot
        + geom_tile(aes(fill="share"), show_legend=False)
        + geom_text(aes(label="label", color="ink"), size=6, show_legend=False)
        + scale_fill_viridis(option="cividis", limits=[0, 100])
        + scale_color_identity()
        + scale_x_discrete(limits=list(found.sort_values("length").x.unique()), expand=[0, 0])
        + scale_y_discrete(limits=list(found.sort_values("depth", ascending=False).y.unique()), expand=[0, 0])
        + theme(panel_grid=element_blank())
        + labs(x="tokens of the text", y="depth of the needle")
        + ggsize(WIDTH, TITLES_HEIGHT + PANEL_HEIGHT * math.ceil(count / columns))
    )


def needle_shares(comparison: Comparison) -> pd.DataFrame:
    """Share of the needles found, 0 to 100, by method, length of the text and depth of the needle.

    Returns:
        Fields ``panel`` (the method), ``length`` and ``depth``, ``x`` and ``y`` (the same in words), ``share``,
        ``label`` (the share in words) and ``ink`` (what can be read on the share's colour).
    """
    scores = comparison.scores[comparison.scores.length.notna() & comparison.scores.depth.notna()]
    scales = {column.label: column.scale or 1.0 for column in comparison.experiment.columns}
    cells = []
    for row in _measured_rows(comparison):
        own = scores[scores.row == row]
        if own.empty:
            continue
        column = own.column.iloc[0]
        sums = own[own.column == column].groupby(["depth", "length"])[["numerator", "denominator"]].sum()
        for (depth, length), share in (scales[column] * sums.numerator / sums.denominator).items():
            cells.append(
                {
                    "panel": _short(row),
                    "length": length,
                    "depth": depth,
                    "x": f"{length / 1000:g}k" if length >= 1000 else f"{length:g}",
                    "y": f"{100 * depth:.0f} %",
                    "share": share,
                    "label": f"{share:.0f}",
                    "ink": "#111111" if share > 50 else "#f5f5f5",
                }
            )
    return pd.DataFrame(cells)


# ------------------------------------------------------------------------------------------------------------- costs


def _draw_losses(comparison: Comparison) -> Plot | None:
    from lets_plot import expand_limits, labs

    points = _ranges(comparison, "losses", first=1)
    if points.empty:
        return None
    return (
        _panels(points, _looks(comparison, list(points["look"].unique())), height=230)
        + _band()
        + _curves(marker_size=2)
        + _whole_numbers(points.x)
        + expand_limits(y=0)
        + labs(x="optimizer step", y="loss per supervised token")
    )


def _ranges(comparison: Comparison, field: str, *, first: int) -> pd.DataFrame:
    """Mean, lowest and highest over documents of a list that runs record, place by place.

    Args:
        comparison: Whose documents.
        field: Name of the list, e.g. ``losses``.
        first: Number of the list's first place.
    """
    points: list[dict[str, Any]] = []
    for row in _measured_rows(comparison):
        lists = [own for own in comparison.documents[comparison.documents.row == row][field] if own]
        for place in range(max(map(len, lists), default=0)):
            values = [own[place] for own in lists if len(own) > place]
            mean = sum(values) / len(values)
            points.append(
                {"look": row, "x": place + first, "y": mean, "low": min(values), "high": max(values)}
            )
    return pd.DataFrame(points)


def _whole_numbers(places: pd.Series[int]) -> FeatureSpec:
    """An axis of steps or layers, with at most a dozen ticks."""
    from lets_plot import scale_x_continuous

    first, last = int(places.min()), int(places.max())
    step = next(one for one in (1, 2, 5, 10, 20, 50, 100, last) if last - first <= 12 * one)
    return scale_x_continuous(breaks=[place for place in range(first, last + 1) if place % step == 0])


def _draw_costs(comparison: Comparison) -> Plot | None:
    from lets_plot import expand_limits, geom_point, labs

    documents = comparison.documents
    rows = [row for row in _measured_rows(comparison) if row in set(documents.row)]
    if not rows:
        return None
    marks = [
        {"panel": _short(row), "look": STAGE_NAMES[stage], "x": tokens, "y": spent}
        for row in rows
        for stage in STAGES
        if (own := documents[documents.row == row])[stage].any()
        for tokens, spent in zip(own.tokens, own[stage], strict=True)
    ]
    drawn = {mark["look"] for mark in marks}
    looks = {stage: look for stage, look in STAGE_STYLES.items() if stage in drawn}
    return (
        _panels(pd.DataFrame(marks), looks, scales="free")
        + geom_point(size=3, alpha=0.75)
        + expand_limits(y=0)
        + _thousands()
        + labs(x="tokens of the document", y="seconds")
    )


def _draw_memory(comparison: Comparison) -> Plot | None:
    from lets_plot import element_blank, geom_bar, labs, scale_x_continuous, theme

    bars = [
        {"look": row, "y": _short(row), "x": peak / 2**30}
        for row in reversed(_measured_rows(comparison))
        if (peak := peak_memory(comparison, row))
    ]
    if not bars:
        return None
    return (
        _panels(
            pd.DataFrame(bars), _looks(comparison, [str(bar["look"]) for bar in bars]), height=30 * len(bars)
        )
        + geom_bar(stat="identity", orientation="y", width=0.6, size=0, show_legend=False)
        + scale_x_continuous(expand=[0, 0])
        + theme(panel_grid_major_y=element_blank())
        + labs(x="GiB", y="")
    )


def _draw_break_even(comparison: Comparison) -> Plot | None:
    from lets_plot import aes, expand_limits, geom_segment, geom_text, labs, scale_x_continuous

    found = break_evens(comparison)
    if not found:
        return None
    crossings = [one.questions for one in found if math.isfinite(one.questions)]
    last = max(20.0, 1.6 * max(crossings, default=0.0))
    lines = {one.baseline: (one.baseline_fixed, one.baseline_per_question) for one in found}
    lines |= {one.row: (one.fixed, one.per_question) for one in found}
    points = [
        {"look": row, "x": questions, "y": fixed + each * questions}
        for row, (fixed, each) in lines.items()
        for questions in (0.0, last)
    ]
    marks = [
        {
            "look": one.row,
            "x": one.questions,
            "y": one.fixed + one.per_question * one.questions,
            "label": f" {math.ceil(one.questions):,}",
            "foot": 0,
        }
        for one in found
        if 0 < one.questions < math.inf
    ]
    plot = _panels(pd.DataFrame(points), _looks(comparison, list(lines)), height=230) + _curves()
    if marks:
        plot += geom_segment(
            aes(xend="x", yend="foot"), data=pd.DataFrame(marks), linetype="dotted", show_legend=False
        )
        plot += geom_text(
            aes(y="foot", label="label"),
            data=pd.DataFrame(marks),
            hjust=0,
            vjust=0,
            size=6,
            show_legend=False,
        )
    return (
        plot
        + expand_limits(y=0)
        + scale_x_continuous(limits=[0, last])
        + labs(x="questions about one document", y="seconds")
    )


def _draw_gates(comparison: Comparison) -> Plot | None:
    from lets_plot import labs, scale_y_continuous

    points = _ranges(comparison, "gates", first=0)
    if points.empty:
        return None
    return (
        _panels(points, _looks(comparison, list(points["look"].unique())))
        + _band()
        + _curves()
        + _whole_numbers(points.x)
        + scale_y_continuous(limits=[0, 1])
        + labs(x="layer", y="mean gate")
    )


FIGURES: dict[str, tuple[str, str, Draw]] = {
    "scores": (
        "Scores",
        "Score of each method by column, with 95 % intervals by bootstrap over documents.",
        _draw_scores,
    ),
    "depth": (
        "Where the evidence stands",
        "Score by the depth of the evidence in the document, 0 is its start. The shaded part is what the prompt leaves "
        "out on average.",
        _draw_depth,
    ),
    "length": (
        "How long the document is",
        "Score by length of the document, in five groups with equally many documents.",
        _draw_length,
    ),
    "needle": (
        "Needle in a haystack",
        "Share of the needle's key words found, x 100, by length of the text and depth of the needle.",
        _draw_needle,
    ),
    "losses": (
        "Fine-tuning",
        "Loss per supervised token by optimizer step: mean over documents, and the range from the lowest to the "
        "highest.",
        _draw_losses,
    ),
    "costs": (
        "Cost of a document",
        "Seconds of each stage by length of the document, one mark per document.",
        _draw_costs,
    ),
    "memory": (
        "Memory",
        "The most memory that a run of each method took, of the GPU where one was used.",
        _draw_memory,
    ),
    "break-even": (
        "Break-even",
        "Seconds for one document by number of questions: what comes before the first answer, and then each answer. "
        "Where a line crosses the baseline's, fine-tuning has paid off.",
        _draw_break_even,
    ),
    "gates": (
        "Gates",
        "Mean gate by layer while answering, over documents: 0 is attention alone, 1 is memory alone. The band goes "
        "from the lowest document to the highest.",
        _draw_gates,
    ),
}
"""Title, caption and drawing function by file name."""
