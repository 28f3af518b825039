"""Scores by the position of the answer in the document: beginning, middle, end, or several places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lift_eval.reporting.comparison import Comparison
from lift_eval.reporting.experiment import Column
from lift_eval.reporting.scores import BinnedScore, QuestionScore, binned_scores
from lift_eval.reporting.table import NOTHING, Table, TableCell, number, span

THIRDS = ("beginning", "middle", "end")
SEVERAL = "several places"
PLACES = (*THIRDS, SEVERAL)


@dataclass(frozen=True)
class PlaceScore:
    """The score of a method on the questions whose evidence is in one place.

    Attributes:
        row: The method.
        column: Label of the score.
        place: One of `PLACES`.
        score: The score with its interval, and the number of questions.
    """

    row: str
    column: str
    place: str
    score: BinnedScore


def whole_columns(comparison: Comparison) -> list[Column]:
    """The columns over all questions of their tasks; those by type repeat the same questions."""
    return [column for column in comparison.experiment.columns if column.type is None]


def place_scores(comparison: Comparison, columns: Sequence[Column]) -> list[PlaceScore]:
    """Score each method on the questions of each place.

    A question whose evidence is one piece belongs to the third of the document in which the piece begins. A question
    whose evidence is several pieces belongs to `SEVERAL`. Left out are questions without known evidence, needles in
    haystacks, which have a figure of their own, and columns where every question needs several pieces.

    Returns:
        Column by column, row by row, in the order of `PLACES`; places without questions are missing.
    """
    found = []
    for column in columns:
        known = {
            row.name: [
                (one, one.depth)
                for one in comparison.scores.get((row.name, column.label), ())
                if one.depth is not None and one.length is None
            ]
            for row in comparison.experiment.rows
        }
        if all(one.pieces > 1 for own in known.values() for one, _ in own):
            continue
        for row, own in known.items():
            places = [_place(one, depth) for one, depth in own]
            scores = binned_scores([one for one, _ in own], places, column.scale or 1.0)
            found += [PlaceScore(row, column.label, PLACES[place], score) for place, score in scores.items()]
    return found


def _place(question: QuestionScore, depth: float) -> int:
    third = min(int(depth * len(THIRDS)), len(THIRDS) - 1)
    return PLACES.index(SEVERAL) if question.pieces > 1 else third


def places_table(comparison: Comparison) -> Table:
    """Methods by the position of the answer, for every score over all questions of its tasks."""
    found = {
        (one.column, one.row, one.place): one.score
        for one in place_scores(comparison, whole_columns(comparison))
    }
    shown = [place for place in PLACES if any(place == known for _, _, known in found)]
    rows = [
        (
            TableCell(row, order=row),
            TableCell(column, order=column),
            *(_score(found.get((column, row, place)), comparison.column(column).decimals) for place in shown),
        )
        for column, row in dict.fromkeys((column, row) for column, row, _ in found)
    ]
    return Table(
        name="places",
        title="Position of the answer",
        caption=(
            "Score, 95 % interval and number of questions, by the third of the document in which the evidence begins. "
            "Questions with evidence in several places are counted separately."
        ),
        header=("Method", "Score", *(place.capitalize() for place in shown)),
        rows=tuple(rows),
    )


def _score(score: BinnedScore | None, decimals: int) -> TableCell:
    if score is None:
        return TableCell(NOTHING, muted=True)
    interval = span(score.low, score.high, decimals)
    return TableCell(number(score.value, decimals), (interval, f"n = {score.questions}"), order=score.value)
