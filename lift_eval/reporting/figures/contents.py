"""What each figure shows, taken from a comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from lift_eval.record.record import STAGES
from lift_eval.reporting.comparison import Comparison
from lift_eval.reporting.costs import peak_memory
from lift_eval.reporting.figures.break_even import cost_by_questions
from lift_eval.reporting.figures.figure import Figure, Look, Marks
from lift_eval.reporting.figures.fronts import MOST_PANELS, score_against
from lift_eval.reporting.figures.needle import needle_map
from lift_eval.reporting.figures.shared import (
    CIRCLE,
    SQUARE,
    TRIANGLE,
    Point,
    Shown,
    by_field,
    crowded,
    ink_on,
    interval,
    looks,
    measured_rows,
    short,
)
from lift_eval.reporting.places import SEVERAL, THIRDS, place_scores, whole_columns
from lift_eval.reporting.scores import BinnedScore, binned_scores

STAGE_LOOKS: dict[str, Look] = {
    "pair generation": ("#cc79a7", TRIANGLE),
    "training": ("#d55e00", SQUARE),
    "answering": ("#0072b2", CIRCLE),
}
STAGE_NAMES = dict(zip(STAGES, STAGE_LOOKS, strict=True))
PLACE_MIDDLES = {**{third: (2 * i + 1) / 6 for i, third in enumerate(THIRDS)}, SEVERAL: 7 / 6}
"""Where each place is drawn: the document goes from 0 to 1, and evidence in several places is to its right."""
PLACE_SPREAD = 0.25
"""Width on the axis that all methods of a place share."""
LENGTH_BINS = 5


def all_figures(comparison: Comparison) -> Iterator[Figure]:
    """Every figure that the runs have the data for, one after the other."""
    for name, (title, caption, show) in FIGURES.items():
        shown = show(comparison)
        if shown is not None:
            yield Figure(name, title, caption, *shown)


# ------------------------------------------------------------------------------------------------------------ scores


def _scores(comparison: Comparison) -> Shown | None:
    rows, columns = measured_rows(comparison), comparison.experiment.columns
    if not rows:
        return None
    named = crowded(comparison)
    step = 0.7 / max(len(rows), 2)
    points = [
        {
            **({"panel": column.label} if named else {}),
            "look": row,
            "x": cell.value,
            "y": index if named else place + (index - (len(rows) - 1) / 2) * step,
            **interval(cell),
        }
        for index, row in enumerate(rows)
        for place, column in enumerate(columns)
        if (cell := comparison.cell(row, column.label)).measured
    ]
    labels = rows if named else [column.label for column in columns]
    return by_field(points), looks(comparison, rows), {"labels": labels}


# -------------------------------------------------------------------------------------------- where LIFT should win


def _height(score: BinnedScore) -> Point:
    """Score ``y`` and its interval."""
    return {"y": score.value, **interval(score)}


def _score_curves(comparison: Comparison, points: list[Point], **more: Any) -> Shown | None:  # noqa: ANN401
    """Curves of scores with their intervals, one panel for each column."""
    if not points:
        return None
    drawn = {point["look"] for point in points}
    rows = [row for row in measured_rows(comparison) if row in drawn]
    return by_field(points), looks(comparison, rows), more


def _places(comparison: Comparison) -> Shown | None:
    found = place_scores(comparison, whole_columns(comparison)[:MOST_PANELS])
    if crowded(comparison):
        return _score_map([(one.column, one.row, one.place, one.score) for one in found], list(PLACE_MIDDLES))
    rows = list(dict.fromkeys(one.row for one in found))
    step = PLACE_SPREAD / max(len(rows), 6)
    points = [
        {
            "panel": one.column,
            "look": one.row,
            # Beside each other, so that no method hides another.
            "x": PLACE_MIDDLES[one.place] + (rows.index(one.row) - (len(rows) - 1) / 2) * step,
            **_height(one.score),
            "line": f"{one.row}, {one.place if one.place == SEVERAL else 'along the document'}",
        }
        for one in found
    ]
    shown = {*THIRDS, *(one.place for one in found)}
    ticks = {place: x for place, x in PLACE_MIDDLES.items() if place in shown}
    return _score_curves(comparison, points, ticks=ticks, **_cut(comparison))


def _score_map(scores: Sequence[tuple[str, str, str, BinnedScore]], across: Sequence[str]) -> Shown | None:
    """Scores as a map of methods against something.

    Args:
        scores: Column, method, place across, score.
        across: All places across, in order.
    """
    if not scores:
        return None
    most = max(score.value for *_, score in scores) or 1.0
    tiles = [
        {
            "panel": column,
            "x": place,
            "y": row,
            "share": score.value,
            "label": f"{score.value:.1f}",
            "ink": ink_on(score.value, most),
        }
        for column, row, place, score in scores
    ]
    drawn = {place for _, _, place, _ in scores}
    rows = list(dict.fromkeys(row for _, row, _, _ in scores))
    order = {"across": [place for place in across if place in drawn], "upwards": rows[::-1], "most": most}
    return by_field(tiles), {}, order


def _cut(comparison: Comparison) -> dict[str, Marks]:
    """The part of a document's middle that the baseline's prompts omit, if any."""
    baseline = comparison.experiment.baseline
    shares = [one.kept for one in comparison.documents[baseline] if one.kept is not None]
    truncated = all(
        (run.recipe.get("prompt") or {}).get("document") == "truncated" for run in comparison.runs[baseline]
    )
    if not truncated or not shares or not (kept := float(np.mean(shares))) < 1:
        return {}
    return {"cut": {"from": [kept / 2], "to": [1 - kept / 2]}}


def _length(comparison: Comparison) -> Shown | None:
    lengths: dict[str, int] = {}
    for document in (one for own in comparison.documents.values() for one in own):
        lengths.setdefault(document.digest, document.tokens)
    points: list[Point] = []
    tiles: list[tuple[str, str, str, BinnedScore]] = []
    for column in whole_columns(comparison)[:MOST_PANELS]:
        of_column = {
            row: [
                one
                for one in comparison.scores.get((row, column.label), ())
                if one.length is None and one.document in lengths
            ]
            for row in measured_rows(comparison)
        }
        documents = {one.document for own in of_column.values() for one in own}
        known = [float(lengths[document]) for document in documents]
        if len(set(known)) < LENGTH_BINS:
            continue
        edges = np.quantile(known, np.linspace(0, 1, LENGTH_BINS + 1))
        for row, own in of_column.items():
            tokens = np.array([lengths[one.document] for one in own], dtype=float)
            bins = np.clip(np.searchsorted(edges, tokens, side="right") - 1, 0, LENGTH_BINS - 1)
            for place, score in binned_scores(own, bins.tolist(), column.scale or 1.0).items():
                mean = float(tokens[bins == place].mean())
                points.append({"panel": column.label, "look": row, "x": mean, **_height(score)})
                tiles.append((column.label, row, f"group {place + 1}", score))
    if crowded(comparison):
        return _score_map(tiles, [f"group {place + 1}" for place in range(LENGTH_BINS)])
    return _score_curves(comparison, points)


# ------------------------------------------------------------------------------------------------------------- costs


def _losses(comparison: Comparison) -> Shown | None:
    return _ranges(comparison, "losses", first=1)


def _gates(comparison: Comparison) -> Shown | None:
    return _ranges(comparison, "gates", first=0)


def _ranges(comparison: Comparison, field: str, *, first: int) -> Shown | None:
    """Mean, lowest and highest over documents of a list that runs record, place by place.

    Args:
        comparison: Whose documents.
        field: Name of the list, e.g. ``losses``.
        first: Number of the list's first place.
    """
    points: list[Point] = []
    named = crowded(comparison)
    for row in measured_rows(comparison):
        lists = [own for one in comparison.documents[row] if (own := getattr(one, field))]
        for place in range(max(map(len, lists), default=0)):
            values = [own[place] for own in lists if len(own) > place]
            mean = sum(values) / len(values)
            point = {"look": row, "x": place + first, "y": mean, "low": min(values), "high": max(values)}
            points.append({"panel": short(row), **point} if named else point)
    if not points:
        return None
    return by_field(points), looks(comparison, dict.fromkeys(point["look"] for point in points)), {}


def _costs(comparison: Comparison) -> Shown | None:
    return _by_stage(
        [
            (row, stage, one.tokens, one.seconds[stage])
            for row in measured_rows(comparison)
            for stage in STAGES
            if any(one.seconds[stage] for one in comparison.documents[row])
            for one in comparison.documents[row]
        ]
    )


def _document_memory(comparison: Comparison) -> Shown | None:
    return _by_stage(
        [
            (row, stage, one.tokens, one.memory[stage] / 2**30)
            for row in measured_rows(comparison)
            for stage in STAGES
            for one in comparison.documents[row]
            if one.memory.get(stage)
        ]
    )


def _by_stage(costs: Sequence[tuple[str, str, int, float]]) -> Shown | None:
    """What each stage of each document costs: method, stage, tokens of the document, cost."""
    if not costs:
        return None
    points = [
        {"panel": short(row), "look": STAGE_NAMES[stage], "x": tokens, "y": cost}
        for row, stage, tokens, cost in costs
    ]
    drawn = {point["look"] for point in points}
    return by_field(points), {stage: look for stage, look in STAGE_LOOKS.items() if stage in drawn}, {}


def _memory(comparison: Comparison) -> Shown | None:
    bars = [
        {"look": row, "y": short(row), "x": peak / 2**30}
        for row in reversed(measured_rows(comparison))
        if (peak := peak_memory(comparison, row))
    ]
    if not bars:
        return None
    return by_field(bars), looks(comparison, [str(bar["look"]) for bar in bars]), {}


FIGURES: dict[str, tuple[str, str, Callable[[Comparison], Shown | None]]] = {
    "scores": (
        "Scores",
        "Score of each method by column, with 95 % bootstrap intervals over documents.",
        _scores,
    ),
    "places": (
        "Position of the answer",
        "Score by the third of the document in which the evidence begins, and for evidence in several places. A shaded "
        "part is what the baseline's prompt omits on average.",
        _places,
    ),
    "length": (
        "Document length",
        "Score by document length, in five groups with equal numbers of documents, from the shortest to the longest.",
        _length,
    ),
    "needle": (
        "Needle in a haystack",
        "Percentage of the needle's key words found, by text length and needle depth.",
        needle_map,
    ),
    "losses": (
        "Training loss",
        "Loss per supervised token by optimizer step: mean and range over documents.",
        _losses,
    ),
    "costs": (
        "Time per document",
        "Seconds of each stage by document length, one marker per document.",
        _costs,
    ),
    "document-memory": (
        "Memory per document",
        "Peak memory of each stage by document length, one marker per document: of the GPU if one was used, otherwise "
        "of the process.",
        _document_memory,
    ),
    "memory": (
        "Memory per run",
        "Peak memory of a run of each method, of the GPU if one was used.",
        _memory,
    ),
    "break-even": (
        "Break-even",
        "Cost per document by number of questions (both logarithmic): preparation, then each answer. A method pays off "
        "where its line falls below that of an alternative: its baseline, the whole document in each prompt, or "
        "retrieval. Each crossing has the method's colour and the alternative's marker; below it is the number of "
        "questions. If there are too many methods to tell apart, only the six that pay off first are shown, without "
        "controls.",
        cost_by_questions,
    ),
    "score-preparation": (
        "Score against preparation cost",
        "Score by operations before the first answer (logarithmic), with 95 % intervals. The dashed line is the Pareto "
        "front. Methods without preparation are at the left edge.",
        lambda comparison: score_against(comparison, lambda cost: cost.preparation_operations),
    ),
    "score-stored": (
        "Score against storage",
        "Score by bytes stored per document (logarithmic), with 95 % intervals. The dashed line is the Pareto front. "
        "Methods that store nothing are at the left edge.",
        lambda comparison: score_against(comparison, lambda cost: cost.stored_bytes),
    ),
    "gates": (
        "Gates",
        "Mean gate by layer while answering: 0 is attention only, 1 is memory only. The line is the mean and the band "
        "the range over documents.",
        _gates,
    ),
}
"""Title, caption and contents by file name."""
