"""The tables of a report, as plain data that every format is written from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pandas as pd

from lift_eval.reporting.comparison import FEW_DOCUMENTS, STAGES, Cell, Comparison
from lift_eval.reporting.experiment import Column
from lift_eval.reporting.published import PublishedRow

MINUS = "−"
NOTHING = "–"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Entry:
    """One cell of a table.

    Attributes:
        text: What stands there.
        detail: Further parts, shown smaller where a format can.
        bold: Whether it is the best of its column.
        muted: Whether it is no number of this comparison: not run, or published.
        marks: Letters of notes below the table.
        order: What the table is sorted by; None sorts last.
    """

    text: str
    detail: tuple[str, ...] = ()
    bold: bool = False
    muted: bool = False
    marks: str = ""
    order: float | str | None = None


@dataclass(frozen=True)
class Table:
    """A table with its title, what must be said of it, and notes that its marks refer to.

    Attributes:
        name: Part of ids and labels.
        title: Its heading.
        caption: Sentences on how to read it.
        header: Names of the columns; the first column names the rows.
        rows: Its cells.
        notes: (mark, text) of each note.
        remarks: Notes on the whole table.
    """

    name: str
    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = field(default=())


def all_tables(comparison: Comparison) -> list[Table]:
    """Every table that has something to show, the scores first."""
    tables = [
        scores_table(comparison),
        published_table(comparison),
        tests_table(comparison),
        runs_table(comparison),
        costs_table(comparison),
        break_even_table(comparison),
    ]
    return [table for table in tables if table.rows]


def number(value: float, decimals: int = 1) -> str:
    """A number with a real minus sign; a dash where there is none."""
    if math.isnan(value):
        return NOTHING
    text = f"{abs(value):.{decimals}f}"
    return f"{MINUS}{text}" if value < 0 and float(text) else text


def signed(value: float, decimals: int = 1) -> str:
    """A difference with its sign."""
    text = number(value, decimals)
    return text if text[0] in (MINUS, NOTHING) else f"+{text}"


def p_value(value: float) -> str:
    """A p-value with three digits."""
    if math.isnan(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def span(low: float, high: float, decimals: int = 1) -> str:
    """An interval; empty where there is none."""
    return "" if math.isnan(low) else f"[{number(low, decimals)}, {number(high, decimals)}]"


def share(value: float) -> str:
    """A share as a percentage."""
    return NOTHING if math.isnan(value) else f"{100 * value:.0f} %"


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


# ----------------------------------------------------------------------------------------------------------- scores


def scores_table(comparison: Comparison) -> Table:
    """Methods against scores: value, difference to the baseline, 95 % interval."""
    experiment, marks = comparison.experiment, _Marks()
    rows = [
        (
            Entry(f"{row.name} (baseline)" if row.name in experiment.baselines else row.name, order=row.name),
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
            "Value, difference to the baseline, and 95 % interval by bootstrap over documents. The best value of a "
            "column is bold. An asterisk marks a difference with p < 0.05 (sign-flip permutation test over "
            "documents, Holm's correction over the columns)."
        ),
        header=("Method", *(_heading(column) for column in experiment.columns)),
        rows=tuple(rows),
        notes=marks.notes,
        remarks=tuple(_score_remarks(comparison)),
    )


def _heading(column: Column) -> str:
    return column.label if column.higher_is_better is not False else f"{column.label} (lower is better)"


def _score(cell: Cell, column: Column, marks: _Marks) -> Entry:
    if not cell.measured:
        return Entry(cell.status, muted=True)
    detail = []
    if not math.isnan(cell.difference):
        detail.append(signed(cell.difference, column.decimals) + ("*" if cell.significant else ""))
    if interval := span(cell.low, cell.high, column.decimals):
        detail.append(interval)
    return Entry(
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
    few = [cell for cell in comparison.cells if cell.measured and 0 < cell.documents < FEW_DOCUMENTS]
    if few:
        least = min(cell.documents for cell in few)
        yield f"With {least} documents the intervals are too narrow: a bootstrap needs {FEW_DOCUMENTS} or more."
    pooled = sorted({cell.seeds for cell in comparison.cells if len(cell.seeds) > 1})
    for seeds in pooled:
        yield (
            f"Seeds {', '.join(map(str, seeds))} are pooled: a question counts once, with its mean score over the "
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
        (Entry(row.name, order=row.name), *(_figure(row, column) for column in columns), Entry(row.source))
        for row in comparison.published
    ]
    metrics = dict.fromkeys(row.metric for row in comparison.published)
    return Table(
        name="published",
        title="Published figures",
        caption=f"Not measured here; copied as printed: {'; '.join(metrics)}.",
        header=("Method", *(column.label for column in columns), "Source"),
        rows=tuple(rows),
        remarks=tuple(dict.fromkeys(caution for row in comparison.published for caution in row.cautions)),
    )


def _figure(row: PublishedRow, column: Column) -> Entry:
    value = row.values.get(column.label)
    return Entry(NOTHING, muted=True) if value is None else Entry(f"{value:.2f}", order=value)


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
                Entry(cell.row, order=cell.row),
                Entry(cell.column, order=cell.column),
                Entry(str(cell.paired_questions), order=cell.paired_questions),
                Entry(str(cell.documents), order=cell.documents),
                Entry(
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
        title="Differences to the baseline",
        caption=(
            "Paired on the questions that both methods answered. Bootstrap and permutation take whole documents; "
            "McNemar's test takes questions as independent, which those about one document are not."
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


def _p(value: float) -> Entry:
    return Entry(p_value(value), order=None if math.isnan(value) else value)


# ------------------------------------------------------------------------------------------------------------- runs


def runs_table(comparison: Comparison) -> Table:
    """What each method was asked, and what was cut off or failed."""
    rows = []
    for row in comparison.experiment.rows:
        cells = [cell for cell in comparison.cells if cell.row == row.name and cell.measured]
        if not cells:
            continue
        own = comparison.scores[comparison.scores.row == row.name].drop_duplicates(["task", "key"])
        questions = len(own) or max(cell.questions for cell in cells)
        recorded = comparison.documents[comparison.documents.row == row.name]
        seeds = sorted({seed for cell in cells for seed in cell.seeds})
        rows.append(
            (
                Entry(row.name, order=row.name),
                _count(questions),
                _count(own.document.nunique() or None),
                Entry(", ".join(map(str, seeds)), order=len(seeds)),
                _kept(recorded),
                *(
                    _count(total if len(recorded) else None)
                    for total in (
                        (recorded.kept < 1).sum(),
                        recorded.incomplete_answers.sum(),
                        (recorded.retried.fillna("") != "").sum(),
                        (recorded.failure.fillna("") != "").sum(),
                        recorded.lost_questions.fillna(0).sum(),
                    )
                ),
            )
        )
    return Table(
        name="runs",
        title="What the scores rest on",
        caption=(
            "Questions and documents of all columns together; what follows is over all seeds. Kept: mean share of the "
            "document that the prompt held. Truncated: documents of which the prompt held less than all. Incomplete: "
            "answers cut off at the most tokens allowed. Retried: documents trained anew at a tenth of the learning "
            "rate, since the training had diverged. Failed: documents given up; their lost questions count as wrong."
        ),
        header=(
            "Method",
            "Questions",
            "Documents",
            "Seeds",
            "Kept",
            "Truncated documents",
            "Incomplete answers",
            "Retried documents",
            "Failed documents",
            "Lost questions",
        ),
        rows=tuple(rows),
    )


def _count(value: float | None) -> Entry:
    return Entry(NOTHING, muted=True) if value is None else Entry(f"{int(value):,}", order=int(value))


def _kept(recorded: pd.DataFrame) -> Entry:
    """Mean share over the questions of which it is known."""
    known = recorded[recorded.kept.notna()]
    questions = known.questions - known.not_located.fillna(0)
    if not questions.sum():
        return Entry(NOTHING, muted=True)
    kept = float((known.kept * questions).sum() / questions.sum())
    return Entry(share(kept), order=kept)


# ------------------------------------------------------------------------------------------------------------ costs


def costs_table(comparison: Comparison) -> Table:
    """Mean cost of a document, by stage, and the peak memory."""
    rows = []
    for row in comparison.experiment.rows:
        recorded = comparison.documents[comparison.documents.row == row.name]
        if recorded.empty:
            continue
        memory = peak_memory(comparison, row.name)
        times = [float(recorded[stage].mean()) for stage in STAGES]
        rows.append(
            (
                Entry(row.name, order=row.name),
                _mean(recorded, "tokens", lambda value: f"{value:,.0f}"),
                _mean(recorded, "trained_tokens", lambda value: f"{value:,.0f}"),
                *(Entry(seconds(value), order=value) for value in (*times, sum(times))),
                Entry(NOTHING, muted=True)
                if memory is None
                else Entry(f"{memory / 2**30:.2f} GiB", order=memory),
            )
        )
    return Table(
        name="costs",
        title="Cost of a document",
        caption=(
            "Means over documents, wall-clock time; what came from the store counts with the time it took when it was "
            "made. Memory is the run's peak, of the GPU where one was used."
        ),
        header=(
            "Method",
            "Tokens",
            "Trained tokens",
            "Synthesis",
            "Training",
            "Answering",
            "Together",
            "Peak memory",
        ),
        rows=tuple(rows),
    )


def peak_memory(comparison: Comparison, row: str) -> float | None:
    """Most memory that any run of a row took, in bytes."""
    peaks = [run.lift.get("totals", {}).get("peak_memory_bytes") for run in comparison.runs[row] if run.lift]
    return max((float(peak) for peak in peaks if peak), default=None)


def _mean(recorded: pd.DataFrame, name: str, write: Callable[[float], str]) -> Entry:
    value = float(recorded[name].mean())
    return Entry(write(value), order=value)


def seconds(value: float) -> str:
    """A time that people can read."""
    if value >= 600:
        return f"{value / 60:.0f} min"
    return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 1 else f"{value * 1000:.0f} ms"


# ------------------------------------------------------------------------------------------------------- break-even


@dataclass(frozen=True)
class BreakEven:
    """From how many questions about a document on a method is cheaper than the baseline.

    Attributes:
        row: The method.
        baseline: The row that it is compared with.
        fixed: Its mean seconds per document before the first answer.
        per_question: Its mean seconds per answer.
        baseline_fixed: The baseline's seconds before the first answer.
        baseline_per_question: The baseline's mean seconds per answer.
        documents: Documents that both have.
    """

    row: str
    baseline: str
    fixed: float
    per_question: float
    baseline_fixed: float
    baseline_per_question: float
    documents: int

    @property
    def questions(self) -> float:
        """The number of questions at which both cost the same; infinite where that never happens."""
        extra, saved = (
            self.fixed - self.baseline_fixed,
            self.baseline_per_question - self.per_question,
        )
        if extra <= 0:
            return 0.0
        return extra / saved if saved > 0 else math.inf


def break_evens(comparison: Comparison) -> list[BreakEven]:
    """The break-even of every method on the documents that it shares with the baseline."""
    found = []
    costs = _per_document(comparison)
    for row in comparison.experiment.rows:
        baseline = comparison.experiment.baseline_of(row.name)
        if baseline not in costs or row.name not in costs:
            continue
        own, base = costs[row.name], costs[baseline]
        shared = own.index.intersection(base.index)
        if shared.empty:
            continue
        mine, theirs = own.loc[shared].mean(), base.loc[shared].mean()
        found.append(
            BreakEven(
                row.name, baseline, mine.fixed, mine.answering, theirs.fixed, theirs.answering, len(shared)
            )
        )
    return found


def _per_document(comparison: Comparison) -> dict[str, pd.DataFrame]:
    """Mean seconds of each document, over seeds, by row: before the first answer, and for each answer."""
    recorded = comparison.documents[comparison.documents.questions > 0]
    frame = pd.DataFrame(
        {
            "row": recorded.row,
            "digest": recorded.digest,
            "fixed": recorded.synthesis + recorded.train,
            "answering": recorded.answer / recorded.questions,
        }
    )
    means = frame.groupby(["row", "digest"]).mean()
    return {row: means.loc[row] for row in means.index.unique("row")}


def break_even_table(comparison: Comparison) -> Table:
    """From how many questions per document on a method costs less time than the baseline."""
    rows = [
        (
            Entry(found.row, order=found.row),
            Entry(str(found.documents), order=found.documents),
            Entry(seconds(found.fixed), order=found.fixed),
            Entry(seconds(found.per_question), order=found.per_question),
            Entry(seconds(found.baseline_per_question), order=found.baseline_per_question),
            Entry("never", order=None)
            if math.isinf(found.questions)
            else Entry(f"{math.ceil(found.questions):,} questions", order=found.questions),
        )
        for found in break_evens(comparison)
    ]
    return Table(
        name="break-even",
        title="Break-even",
        caption=(
            "How many questions about one document it takes until a method has cost less time than the baseline: "
            "its time before the first answer over what each answer saves. Documents that both have; mean times."
        ),
        header=(
            "Method",
            "Documents",
            "Before the first answer",
            "Per answer",
            "Per answer, baseline",
            "Break-even",
        ),
        rows=tuple(rows),
    )
