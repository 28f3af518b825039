"""The tables of a report: its scores, the published ones beside them, and the tests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from lift_eval.reporting.comparison import FEW_DOCUMENTS, Cell, Comparison
from lift_eval.reporting.controls import Nearness, nearness_table, recall_table
from lift_eval.reporting.costs import answer_costs_table, break_even_table, costs_table
from lift_eval.reporting.experiment import Column
from lift_eval.reporting.methods import descriptions, method_class
from lift_eval.reporting.places import places_table
from lift_eval.reporting.published import PublishedRow
from lift_eval.reporting.run_tables import pairs_table, runs_table
from lift_eval.reporting.table import NOTHING, Table, TableCell, count, number, p_value, signed, span

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def all_tables(comparison: Comparison, near: Sequence[Nearness]) -> list[Table]:
    """Every table that has something to show, the scores first.

    Args:
        comparison: What to show.
        near: Its `nearness`.
    """
    tables = [
        scores_table(comparison),
        published_table(comparison),
        tests_table(comparison),
        places_table(comparison),
        runs_table(comparison),
        pairs_table(comparison),
        nearness_table(near),
        recall_table(comparison),
        costs_table(comparison),
        answer_costs_table(comparison),
        break_even_table(comparison),
    ]
    return [table for table in tables if table.rows]


class _Marks:
    """Gives each note a letter, equal notes the same one."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def letters(self, notes: Iterable[str]) -> str:
        for note in notes:
            count = len(self.of)
            repeat, place = divmod(count, len(LETTERS))
            self.of.setdefault(note, LETTERS[place] * (repeat + 1))
        return ",".join(self.of[note] for note in dict.fromkeys(notes))

    @property
    def notes(self) -> tuple[tuple[str, str], ...]:
        return tuple((mark, note) for note, mark in self.of.items())


def scores_table(comparison: Comparison) -> Table:
    """Methods against scores: value, difference from the baseline, 95 % interval."""
    experiment, marks = comparison.experiment, _Marks()
    rows = [
        (
            TableCell(
                f"{row.name} (baseline)" if row.name in experiment.baselines else row.name, order=row.name
            ),
            *(
                _score(comparison.cell(row.name, column.label), column, marks)
                for column in experiment.columns
            ),
        )
        for row in experiment.rows
    ]
    return Table(
        name="scores",
        title="Scores",
        caption=(
            "Value, difference from the baseline, and 95 % bootstrap interval over documents. The best value in each "
            "column is bold. An asterisk marks a difference with p < 0.05 (sign-flip permutation test over documents, "
            "Holm's correction over all methods and columns)."
        ),
        header=("Method", *(_heading(column) for column in experiment.columns)),
        rows=tuple(rows),
        notes=marks.notes,
        remarks=tuple(_score_remarks(comparison)),
        classes=tuple(method_class(comparison, row.name) for row in experiment.rows),
        more=tuple(descriptions(comparison).get(row.name, ()) for row in experiment.rows),
    )


def _heading(column: Column) -> str:
    return column.label if column.higher_is_better is not False else f"{column.label} (lower is better)"


def _score(cell: Cell, column: Column, marks: _Marks) -> TableCell:
    if not cell.measured:
        return TableCell(cell.status, muted=True)
    detail = []
    if not math.isnan(cell.difference):
        detail.append(signed(cell.difference, column.decimals) + ("*" if cell.significant else ""))
    if interval := span(cell.low, cell.high, column.decimals):
        detail.append(interval)
    return TableCell(
        number(cell.value, column.decimals),
        tuple(detail),
        bold=cell.best,
        marks=marks.letters(cell.notes),
        order=cell.value,
    )


def _score_remarks(comparison: Comparison) -> Iterable[str]:
    for row in comparison.experiment.rows:
        if row.baseline and comparison.experiment.baseline_of(row.name):
            yield f"{row.name} is compared with {row.baseline}."
    counts = {cell.documents for cell in comparison.cells if not math.isnan(cell.low)}
    if counts and (least := min(counts)) < FEW_DOCUMENTS:
        yield f"With {least} documents the intervals are too narrow; a bootstrap needs at least {FEW_DOCUMENTS}."
    if 1 in {cell.documents for cell in comparison.cells}:
        yield "Scores from 1 document have no interval and no test, and say nothing about other documents."
    pooled = sorted({cell.seeds for cell in comparison.cells if len(cell.seeds) > 1})
    for seeds in pooled:
        yield (
            f"Seeds {', '.join(map(str, seeds))} are pooled: each question counts once, with its mean score over the "
            "seeds."
        )


# -------------------------------------------------------------------------------------------------------- published


def published_table(comparison: Comparison) -> Table:
    """Published figures for the same scores; nothing is computed from them."""
    columns = [
        column
        for column in comparison.experiment.columns
        if any(column.label in r.values for r in comparison.published)
    ]
    rows = [
        (
            TableCell(row.name, order=row.name),
            *(_figure(row, column) for column in columns),
            TableCell(row.source),
        )
        for row in comparison.published
    ]
    metrics = dict.fromkeys(row.metric for row in comparison.published)
    return Table(
        name="published",
        title="Published figures",
        caption=f"Copied from the publications, not measured here: {'; '.join(metrics)}.",
        header=("Method", *(column.label for column in columns), "Source"),
        rows=tuple(rows),
        remarks=tuple(dict.fromkeys(caution for row in comparison.published for caution in row.cautions)),
    )


def _figure(row: PublishedRow, column: Column) -> TableCell:
    value = row.values.get(column.label)
    return TableCell(NOTHING, muted=True) if value is None else TableCell(f"{value:.2f}", order=value)


# ------------------------------------------------------------------------------------------------------------ tests


def tests_table(comparison: Comparison) -> Table:
    """Every method against the baseline, column by column."""
    rows = []
    for cell in comparison.cells:
        if not cell.measured or math.isnan(cell.difference):
            continue
        digits = comparison.column(cell.column).decimals
        rows.append(
            (
                TableCell(cell.row, order=cell.row),
                TableCell(cell.column, order=cell.column),
                count(cell.paired_questions),
                count(cell.documents),
                TableCell(
                    signed(cell.difference, digits),
                    (span(cell.difference_low, cell.difference_high, digits),),
                    bold=cell.significant,
                    order=cell.difference,
                ),
                _p(cell.bootstrap_p),
                _p(cell.permutation_p),
                _p(cell.holm_p),
                _p(cell.mcnemar_p),
            )
        )
    return Table(
        name="tests",
        title="Differences from the baseline",
        caption=(
            "Paired on the questions that both methods answered. Bootstrap and permutation tests treat a document as "
            "one unit; McNemar's test assumes independent questions, which questions about one document are not."
        ),
        header=(
            "Method",
            "Score",
            "Questions",
            "Documents",
            "Difference",
            "p (bootstrap)",
            "p (permutation)",
            "p (Holm)",
            "p (McNemar)",
        ),
        rows=tuple(rows),
    )


def _p(value: float) -> TableCell:
    return TableCell(p_value(value), order=None if math.isnan(value) else value)
