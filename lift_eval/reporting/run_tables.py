"""The tables of what runs recorded: what was asked, trained and lost, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from lift_eval.errors import counted
from lift_eval.record.record import STAGES
from lift_eval.reporting.comparison import Comparison
from lift_eval.reporting.table import NOTHING, Table, TableCell, count, seconds, share


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
                TableCell(row.name, order=row.name),
                count(questions),
                count(own.document.nunique() or None),
                TableCell(", ".join(map(str, seeds)), order=len(seeds)),
                _kept(recorded),
                *(
                    count(total if len(recorded) else None)
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


def _kept(recorded: pd.DataFrame) -> TableCell:
    """Mean share over the questions of which it is known."""
    known = recorded[recorded.kept.notna()]
    questions = known.questions - known.not_located.fillna(0)
    if not questions.sum():
        return TableCell(NOTHING, muted=True)
    kept = float((known.kept * questions).sum() / questions.sum())
    return TableCell(share(kept), order=kept)


# ------------------------------------------------------------------------------------------------------------ pairs

PAIRS = {
    "Passages": ("asked",),
    "Pairs kept": ("kept",),
    "Cut off": ("cut",),
    "Unparsed": ("unparsed",),
    "Refused": ("empty", "evidence", "ungrounded", "duplicate", "surplus"),
    "Without a pair": ("given_up", "too_long"),
    "Not trained": ("untrainable",),
}
"""Columns, and the counts of a record that each adds up."""


def pairs_table(comparison: Comparison) -> Table:
    """What became of the requests for auxiliary pairs, all documents of a method together."""
    rows = []
    for row in comparison.experiment.rows:
        recorded = comparison.documents[comparison.documents.row == row.name]
        counts = [pairs for pairs in recorded.pairs if pairs]
        if counts:
            sums = [sum(each.get(name, 0) for each in counts for name in names) for names in PAIRS.values()]
            rows.append((TableCell(row.name, order=row.name), count(len(counts)), *map(count, sums)))
    return Table(
        name="pairs",
        title="Auxiliary pairs",
        caption=(
            "Passages or sentences that pairs were asked about, and the pairs kept, over all documents and seeds. "
            "Cut off: replies that ended at the most tokens allowed. Unparsed: replies, or pairs in them, that could "
            "not be read. Refused: pairs without an answer or evidence, asked before, or more than asked for. "
            "Without a pair: passages that gave none, though there was something to ask. Not trained: pairs that fit "
            "no prompt."
        ),
        header=("Method", "Documents", *PAIRS),
        rows=tuple(rows),
    )


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
                TableCell(row.name, order=row.name),
                _mean(recorded, "tokens", lambda value: f"{value:,.0f}"),
                _mean(recorded, "trained_tokens", lambda value: f"{value:,.0f}"),
                *(TableCell(seconds(value), order=value) for value in (*times, sum(times))),
                TableCell(NOTHING, muted=True)
                if memory is None
                else TableCell(f"{memory / 2**30:.2f} GiB", order=memory),
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
    peaks = [run.totals.peak_memory_bytes for run in comparison.runs[row] if run.lift]
    return max((float(peak) for peak in peaks if peak), default=None)


def _mean(recorded: pd.DataFrame, name: str, write: Callable[[float], str]) -> TableCell:
    value = float(recorded[name].mean())
    return TableCell(write(value), order=value)


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
        if extra < 0 or (extra == 0 and saved >= 0):
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
            TableCell(found.row, order=found.row),
            TableCell(str(found.documents), order=found.documents),
            TableCell(seconds(found.fixed), order=found.fixed),
            TableCell(seconds(found.per_question), order=found.per_question),
            TableCell(seconds(found.baseline_per_question), order=found.baseline_per_question),
            TableCell("never", order=None)
            if math.isinf(found.questions)
            else TableCell(counted(math.ceil(found.questions), "question"), order=found.questions),
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
