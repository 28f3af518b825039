"""The tables of what runs recorded: what was asked, trained and lost."""

from __future__ import annotations

import pandas as pd

from lift_eval.reporting.comparison import Comparison
from lift_eval.reporting.table import NOTHING, Table, TableCell, count, share


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
