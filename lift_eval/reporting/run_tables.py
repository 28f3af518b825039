"""The tables of what runs recorded: questions, documents, pairs and failures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lift_eval.record.record import DocumentRecord
from lift_eval.reporting.comparison import Comparison
from lift_eval.reporting.table import NOTHING, Table, TableCell, count, share
from lift_eval.results.reading import Run


def runs_table(comparison: Comparison) -> Table:
    """What each method was asked, and what was cut off or failed."""
    rows = []
    for row in comparison.experiment.rows:
        cells = [cell for cell in comparison.cells if cell.row == row.name and cell.measured]
        if not cells:
            continue
        asked = {
            (one.task, one.key): one.document
            for (name, _), own in comparison.scores.items()
            if name == row.name
            for one in own
        }
        questions = len(asked) or max(cell.questions for cell in cells)
        recorded = comparison.documents[row.name]
        seeds = sorted({seed for cell in cells for seed in cell.seeds})
        rows.append(
            (
                TableCell(row.name, order=row.name),
                count(questions),
                count(len(set(asked.values())) or None),
                TableCell(", ".join(map(str, seeds)), order=len(seeds)),
                _kept(recorded),
                *(
                    count(sum(counts) if recorded else None)
                    for counts in (
                        [one.kept is not None and one.kept < 1 for one in recorded],
                        [one.incomplete_answers for one in recorded],
                        [bool(one.retried) for one in recorded],
                        [bool(one.failure) for one in recorded],
                        [one.lost_questions for one in recorded],
                    )
                ),
            )
        )
    return Table(
        name="runs",
        title="Coverage and failures",
        caption=(
            "Questions and documents are over all columns, the other counts over all seeds. Kept: mean share of the "
            "document in the prompt. Truncated: documents not entirely in the prompt. Cut off: answers that reached "
            "the token limit. Retrained: documents trained again at a tenth of the learning rate after training "
            "diverged. Failed: documents that could not be trained or answered; their lost questions count as wrong."
        ),
        header=(
            "Method",
            "Questions",
            "Documents",
            "Seeds",
            "Kept",
            "Truncated documents",
            "Answers cut off",
            "Retrained documents",
            "Failed documents",
            "Lost questions",
        ),
        rows=tuple(rows),
    )


def _kept(recorded: Sequence[DocumentRecord]) -> TableCell:
    """Mean share over the questions for which it is known."""
    known = [(one.kept, one.questions - one.not_located) for one in recorded if one.kept is not None]
    questions = sum(number for _, number in known)
    if not questions:
        return TableCell(NOTHING, muted=True)
    kept = float(np.sum([kept * number for kept, number in known]) / questions)
    return TableCell(share(kept), order=kept)


# ------------------------------------------------------------------------------------------------------------ pairs

PAIRS = {
    "Passages": ("asked",),
    "Pairs kept": ("kept",),
    "Cut off": ("cut",),
    "Unparsed": ("unparsed",),
    "Rejected": ("empty", "evidence", "ungrounded", "duplicate", "surplus"),
    "Without a pair": ("given_up", "too_long"),
    "Not trained": ("untrainable",),
}
"""Columns, with the counts of a record that each adds up."""


def pairs_table(comparison: Comparison) -> Table:
    """What became of the requests for auxiliary pairs, all documents of a method together."""
    rows = []
    for row in comparison.experiment.rows:
        generators = dict.fromkeys(map(_generator, comparison.runs[row.name]))
        counts = [one.pairs for one in comparison.documents[row.name] if one.pairs]
        if counts:
            sums = [sum(each.get(name, 0) for each in counts for name in names) for names in PAIRS.values()]
            names = TableCell(row.name, order=row.name), TableCell(", ".join(filter(None, generators)))
            rows.append((*names, count(len(counts)), *map(count, sums)))
    return Table(
        name="pairs",
        title="Auxiliary pairs",
        caption=(
            "The model that generated the pairs, the passages or sentences for which it was asked, and the pairs kept, "
            "over all documents and seeds. "
            "Cut off: replies that reached the token limit. Unparsed: replies, or pairs in them, in the wrong format. "
            "Rejected: pairs without answer or evidence, duplicates and surplus pairs. Without a pair: passages that "
            "should have yielded a pair. Not trained: pairs that do not fit in the prompt."
        ),
        header=("Method", "Generator", "Documents", *PAIRS),
        rows=tuple(rows),
    )


def _generator(run: Run) -> str:
    """Who generated a run's pairs; ``self`` is the base model, which is named too."""
    name = str((run.recipe.get("auxiliary") or {}).get("generator") or "")
    return f"{name} ({run.lift.get('pretrained')})" if name == "self" else name
