"""The figures of a report, as SVG and PNG.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart, and every method has its own marker too.
An SVG takes the ink of its surroundings: dark on a light page, light on a dark one. Equal inputs give equal bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from lift_eval.reporting import statistics
from lift_eval.reporting.comparison import STAGES, Comparison
from lift_eval.reporting.experiment import Column
from lift_eval.reporting.tables import break_evens, peak_memory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, DARK_INK, PAPER = "#1f2328", "#e6edf3", "#ffffff"
DARK_PAGE = "@media (prefers-color-scheme: dark)"
SVG_STYLE = f"<style>svg {{ color: {INK} }} {DARK_PAGE} {{ svg {{ color: {DARK_INK} }} }}</style>"
BASELINE_COLOUR = "#7d8590"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
BASELINE_MARKER = "o"
MARKERS = ("s", "D", "^", "v", "P", "X")
STAGE_STYLES = {"synthesis": ("#cc79a7", "^"), "train": ("#d55e00", "s"), "answer": ("#0072b2", "o")}
STAGE_NAMES = {"synthesis": "synthesis", "train": "training", "answer": "answering"}
WIDTH = 7.6
PANEL_HEIGHT = 2.7
LEGEND_HEIGHT = 0.5
RESAMPLES = 2_000
DEPTH_EDGES = np.linspace(0, 1, 6)
LENGTH_BINS = 5
MOST_PANELS = 6

FONT = "DejaVu Sans"
"""Comes with matplotlib, so that lengths of texts are the same on every machine."""

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": [FONT],
    "svg.hashsalt": "lift_eval",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "text.parse_math": False,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "figure.dpi": 100,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
}


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Attributes:
        name: Its file name without ending.
        title: Its heading.
        caption: How to read it; also what a screen reader says.
        svg: The file.
        png: The file.
    """

    name: str
    title: str
    caption: str
    svg: bytes
    png: bytes


Draw: TypeAlias = Callable[[Comparison], "Figure | None"]


def draw_all(comparison: Comparison) -> list[Drawing]:
    """Draw every figure that the runs have the data for."""
    # Imported here: a third of the time that a report without figures takes.
    import matplotlib as mpl

    drawings = []
    with mpl.rc_context(STYLE):
        for name, (title, caption, draw) in FIGURES.items():
            figure = draw(comparison)
            if figure is not None:
                drawings.append(Drawing(name, title, caption, _svg(figure), _png(figure)))
    return drawings


def _svg(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue().decode().replace(f"'{FONT}'", f"'{FONT}', sans-serif")
    opening = text.index(">", text.index("<svg")) + 1
    return f"{text[:opening]}\n {SVG_STYLE}{text[opening:].replace(INK, 'currentColor')}".encode()


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(
        stream,
        format="png",
        dpi=144,
        facecolor=PAPER,
        metadata={"Software": None},
        pil_kwargs={"compress_level": 3},
    )
    return stream.getvalue()


# ------------------------------------------------------------------------------------------------------------ shared


def _panels(
    count: int, *, height: float = PANEL_HEIGHT, left: float = 0.75, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """A grid of panels, at most three beside each other.

    The margins are set by hand, in inches: matplotlib's own layout draws every figure several times over.
    """
    from matplotlib.figure import Figure

    columns = 2 if count in (2, 4) else min(3, count)
    rows = math.ceil(count / columns)
    tall = rows * height + LEGEND_HEIGHT
    figure = Figure(figsize=(WIDTH, tall))
    panel = (WIDTH - left - 0.15) / columns
    figure.subplots_adjust(
        left=left / WIDTH,
        right=1 - 0.15 / WIDTH,
        top=1 - (LEGEND_HEIGHT + 0.25) / tall,
        bottom=0.5 / tall,
        wspace=(0.25 if share_y else 0.5) / panel,
        hspace=0.85 / (height - 0.85),
    )
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=share_y).flat)
    for unused in axes[count:]:
        unused.remove()
    for one in axes[:count]:
        one.locator_params(nbins=5 if columns > 1 else 7)
    return figure, axes[:count]


def _look(comparison: Comparison, row: str) -> dict[str, Any]:
    """Colour and marker of a method; baselines are grey, the first one round."""
    baselines = comparison.experiment.baselines
    alike = [
        other.name for other in comparison.experiment.rows if (other.name in baselines) == (row in baselines)
    ]
    place = alike.index(row)
    if row in baselines:
        return {"color": BASELINE_COLOUR, "marker": (BASELINE_MARKER, *MARKERS)[place % (len(MARKERS) + 1)]}
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend above all panels."""
    entries = {
        label: handle for one in axes for handle, label in zip(*one.get_legend_handles_labels(), strict=True)
    }
    if entries:
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="upper left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=2 if len(entries) > 4 or max(map(len, entries)) > 24 else len(entries),
            borderaxespad=0.2,
        )


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


def _draw_scores(comparison: Comparison) -> Figure | None:
    rows, columns = _measured_rows(comparison), comparison.experiment.columns
    if not rows:
        return None
    step = 0.7 / max(len(rows), 2)
    figure, (axes,) = _panels(
        1,
        height=0.9 + 0.2 * len(rows) * len(columns) + 0.15 * len(columns),
        left=0.25 + 0.075 * max(len(column.label) for column in columns),
    )
    for index, row in enumerate(rows):
        offset = (index - (len(rows) - 1) / 2) * step
        cells = [comparison.cell(row, column.label) for column in columns]
        places = [place + offset for place, cell in enumerate(cells) if cell.measured]
        shown = [cell for cell in cells if cell.measured]
        values = np.array([cell.value for cell in shown])
        low = np.array([0.0 if math.isnan(cell.low) else cell.value - cell.low for cell in shown])
        high = np.array([0.0 if math.isnan(cell.high) else cell.high - cell.value for cell in shown])
        errors = np.maximum([low, high], 0)
        axes.errorbar(
            values, places, xerr=errors, label=row, linestyle="", capsize=2.5, **_look(comparison, row)
        )
    axes.set_yticks(range(len(columns)), [column.label for column in columns])
    axes.set_ylim(len(columns) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("score")
    _legend(figure, [axes])
    return figure


# -------------------------------------------------------------------------------------------- where LIFT should win


def _binned(
    frame: pd.DataFrame, bins: np.ndarray[Any, Any], scale: float
) -> list[tuple[int, float, float, float]]:
    """Score and interval of the questions in each bin that has any: (bin, value, low, high)."""
    points = []
    codes, _ = pd.factorize(frame.document)
    tops, bottoms = (frame[name].to_numpy() for name in ("numerator", "denominator"))
    for place in np.unique(bins):
        inside = bins == place
        _, documents = np.unique(codes[inside], return_inverse=True)
        numerators, denominators = (
            np.bincount(documents, values[inside])[None, :].astype(np.float64) for values in (tops, bottoms)
        )
        value = statistics.mean_of_ratios(numerators, denominators)
        span = statistics.bootstrap_interval(numerators, denominators, resamples=RESAMPLES)
        points.append((int(place), scale * value, scale * span.low, scale * span.high))
    return points


def _curve(
    axes: Axes,
    x: Sequence[float],
    points: Sequence[tuple[int, float, float, float]],
    **look: Any,  # noqa: ANN401
) -> None:
    _, values, low, high = (np.array(part, dtype=float) for part in zip(*points, strict=True))
    errors = np.nan_to_num(np.maximum([values - low, high - values], 0))
    axes.errorbar(x, values, yerr=errors, capsize=2.5, elinewidth=1, **look)


def _whole_columns(comparison: Comparison) -> list[Column]:
    """The columns over all questions of their tasks; those by type repeat the same questions."""
    return [column for column in comparison.experiment.columns if column.type is None][:MOST_PANELS]


def _draw_depth(comparison: Comparison) -> Figure | None:
    scores = comparison.scores[comparison.scores.depth.notna() & comparison.scores.length.isna()]
    columns = [column for column in _whole_columns(comparison) if column.label in set(scores.column)]
    if not columns:
        return None
    figure, panels = _panels(len(columns), share_y=True)
    recorded = comparison.documents[comparison.documents.row == comparison.experiment.baseline]
    for axes, column in zip(panels, columns, strict=True):
        for row in _measured_rows(comparison):
            own = scores[(scores.column == column.label) & (scores.row == row)]
            if own.empty:
                continue
            bins = np.clip(np.digitize(own.depth, DEPTH_EDGES) - 1, 0, len(DEPTH_EDGES) - 2)
            points = _binned(own, bins, column.scale or 1.0)
            middles = [(DEPTH_EDGES[p[0]] + DEPTH_EDGES[p[0] + 1]) / 2 for p in points]
            _curve(axes, middles, points, label=row, **_look(comparison, row))
        if len(recorded) and (kept := float(recorded.kept.mean())) < 1:
            axes.axvspan(kept / 2, 1 - kept / 2, color=INK, alpha=0.06, linewidth=0)
        axes.set(xlim=(0, 1), title=column.label, xlabel="depth of the evidence")
    panels[0].set_ylabel("score")
    _legend(figure, panels)
    return figure


def _draw_length(comparison: Comparison) -> Figure | None:
    lengths = comparison.documents.drop_duplicates("digest").set_index("digest").tokens
    scores = comparison.scores[comparison.scores.length.isna()]
    scores = scores.assign(tokens=scores.document.map(lengths)).dropna(subset=["tokens"])
    columns = [
        column
        for column in _whole_columns(comparison)
        if scores[scores.column == column.label].tokens.nunique() >= LENGTH_BINS
    ]
    if not columns:
        return None
    figure, panels = _panels(len(columns), share_y=True)
    for axes, column in zip(panels, columns, strict=True):
        of_column = scores[scores.column == column.label]
        known = of_column.drop_duplicates("document").tokens.to_numpy(dtype=float)
        edges = np.quantile(known, np.linspace(0, 1, LENGTH_BINS + 1))
        for row in _measured_rows(comparison):
            own = of_column[of_column.row == row]
            if own.empty:
                continue
            bins = np.clip(np.searchsorted(edges, own.tokens, side="right") - 1, 0, LENGTH_BINS - 1)
            points = _binned(own, bins, column.scale or 1.0)
            means = [float(own.tokens[bins == point[0]].mean()) for point in points]
            _curve(axes, means, points, label=row, **_look(comparison, row))
        axes.set(title=column.label, xlabel="tokens of the document")
        axes.xaxis.set_major_formatter(_thousands)
    panels[0].set_ylabel("score")
    _legend(figure, panels)
    return figure


def _thousands(value: float, _: object) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _draw_needle(comparison: Comparison) -> Figure | None:
    scores = comparison.scores[comparison.scores.length.notna() & comparison.scores.depth.notna()]
    rows = [row for row in _measured_rows(comparison) if row in set(scores.row)]
    if not rows:
        return None
    from matplotlib import colormaps

    figure, panels = _panels(len(rows), share_y=True, height=3.0)
    scales = {column.label: column.scale or 1.0 for column in comparison.experiment.columns}
    for axes, row in zip(panels, rows, strict=True):
        own = scores[scores.row == row]
        first = own[own.column == own.column.iloc[0]]
        sums = first.groupby(["depth", "length"])[["numerator", "denominator"]].sum()
        grid = (100 * scales[first.column.iloc[0]] / 100 * sums.numerator / sums.denominator).unstack(
            "length"
        )
        axes.imshow(grid.to_numpy(), cmap="cividis", vmin=0, vmax=100, aspect="auto", interpolation="nearest")
        for (y, x), value in np.ndenumerate(grid.to_numpy()):
            red, green, blue, _ = colormaps["cividis"](value / 100)
            light = 0.3 * red + 0.6 * green + 0.1 * blue > 0.5
            axes.text(
                x,
                y,
                f"{value:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="#111111" if light else "#f5f5f5",
            )
        axes.set_xticks(range(len(grid.columns)), [_thousands(length, None) for length in grid.columns])
        axes.set_yticks(range(len(grid.index)), [f"{100 * depth:.0f} %" for depth in grid.index])
        axes.grid(visible=False)
        axes.set(title=_short(row), xlabel="tokens of the text")
    panels[0].set_ylabel("depth of the needle")
    return figure


# ------------------------------------------------------------------------------------------------------------- costs


def _draw_losses(comparison: Comparison) -> Figure | None:
    documents = comparison.documents
    rows = [
        row for row in _measured_rows(comparison) if documents[documents.row == row].losses.map(bool).any()
    ]
    if not rows:
        return None
    figure, (axes,) = _panels(1, height=3.0)
    for row in rows:
        look = _look(comparison, row)
        curves = [losses for losses in documents[documents.row == row].losses if losses]
        longest = max(map(len, curves))
        padded = np.array([losses + [math.nan] * (longest - len(losses)) for losses in curves], dtype=float)
        steps = np.arange(1, longest + 1)
        axes.plot(steps, np.nanmean(padded, axis=0), label=row, **look)
        axes.fill_between(
            steps,
            np.nanmin(padded, axis=0),
            np.nanmax(padded, axis=0),
            color=look["color"],
            alpha=0.15,
            linewidth=0,
        )
    axes.set(xlabel="optimizer step", ylabel="loss per supervised token", ylim=(0, None))
    axes.locator_params(axis="x", integer=True, nbins=10)
    _legend(figure, [axes])
    return figure


def _draw_costs(comparison: Comparison) -> Figure | None:
    documents = comparison.documents
    rows = [row for row in _measured_rows(comparison) if row in set(documents.row)]
    if not rows:
        return None
    memory = {row: peak_memory(comparison, row) for row in rows}
    figure, panels = _panels(len(rows) + any(memory.values()))
    for axes, row in zip(panels, rows, strict=False):
        own = documents[documents.row == row]
        for stage in STAGES:
            colour, marker = STAGE_STYLES[stage]
            if own[stage].any():
                axes.plot(own.tokens, own[stage], marker, color=colour, alpha=0.75, label=STAGE_NAMES[stage])
        axes.set(title=_short(row), xlabel="tokens of the document", ylim=(0, None))
        axes.xaxis.set_major_formatter(_thousands)
    panels[0].set_ylabel("seconds")
    if any(memory.values()):
        axes = panels[-1]
        bars = [(memory[row] or 0) / 2**30 for row in rows]
        axes.barh(
            range(len(rows)), bars, color=[_look(comparison, row)["color"] for row in rows], height=0.55
        )
        for place, row in enumerate(rows):
            axes.text(0, place - 0.3, f" {_short(row)}", fontsize=7, va="bottom")
        axes.set_yticks([])
        axes.set_ylim(len(rows) - 0.5, -0.9)
        axes.set(title="peak memory of the run", xlabel="GiB")
    _legend(figure, panels[: len(rows)])
    return figure


def _draw_break_even(comparison: Comparison) -> Figure | None:
    found = break_evens(comparison)
    if not found:
        return None
    crossings = [one.questions for one in found if math.isfinite(one.questions)]
    last = max(20.0, 1.6 * max(crossings, default=0.0))
    figure, (axes,) = _panels(1, height=3.0)
    questions = np.array([0.0, last])
    for reading in {one.baseline: one for one in found}.values():
        cost = reading.baseline_fixed + reading.baseline_per_question * questions
        axes.plot(questions, cost, label=reading.baseline, **_look(comparison, reading.baseline))
    for one in found:
        look = _look(comparison, one.row)
        axes.plot(questions, one.fixed + one.per_question * questions, label=one.row, **look)
        if 0 < one.questions < math.inf:
            paid = one.fixed + one.per_question * one.questions
            axes.plot([one.questions] * 2, [0, paid], color=look["color"], linewidth=1, linestyle=":")
            axes.annotate(
                f"{math.ceil(one.questions):,}",
                (one.questions, 0),
                xytext=(3, 4),
                textcoords="offset points",
                color=look["color"],
            )
    axes.set(xlabel="questions about one document", ylabel="seconds", xlim=(0, last), ylim=(0, None))
    _legend(figure, [axes])
    return figure


def _draw_gates(comparison: Comparison) -> Figure | None:
    documents = comparison.documents
    rows = [
        row for row in _measured_rows(comparison) if documents[documents.row == row].gates.map(bool).any()
    ]
    if not rows:
        return None
    figure, (axes,) = _panels(1)
    for row in rows:
        look = _look(comparison, row)
        gates = np.array([own for own in documents[documents.row == row].gates if own], dtype=float)
        layers = np.arange(gates.shape[1])
        axes.plot(layers, gates.mean(axis=0), label=row, **look)
        axes.fill_between(
            layers, gates.min(axis=0), gates.max(axis=0), color=look["color"], alpha=0.15, linewidth=0
        )
    axes.set(xlabel="layer", ylabel="mean gate", ylim=(0, 1))
    axes.locator_params(axis="x", integer=True, nbins=10)
    _legend(figure, [axes])
    return figure


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
