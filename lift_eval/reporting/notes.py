"""The notes of a cell: how its conditions differ from the baseline's, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping

from lift_eval.errors import counted
from lift_eval.reporting.conditions import conditions, describe_differences, describe_forms
from lift_eval.reporting.experiment import Column, Experiment, Row
from lift_eval.reporting.scores import Sources
from lift_eval.results.reading import Run

JUDGED = "judge_"
"""Prefix of the scores that a judge gives."""
UNCLEAR = "judge_unclear"
TROUBLES = {
    "failed_documents": ("failed document", ", whose questions count as wrong"),
    "lost_questions": ("question", " of failed documents"),
    "retried_documents": ("document", " retrained at a tenth of the learning rate"),
    "documents_with_few_pairs": ("document", " with few auxiliary pairs to train on"),
    "questions_not_located": ("question", " with an altered or incomplete document in the prompt"),
    "skipped_questions": (
        "question",
        " skipped and counted as wrong because the whole document does not fit",
    ),
    "truncated_questions": ("question", " with a truncated prompt because the whole document does not fit"),
    "questions_without_document": ("question", " without a document, answered by the base model"),
}
"""Totals of a run that count deviations from the plan: the noun, and the words after it."""


def notes_of_cell(
    experiment: Experiment, row: Row, column: Column, sources: Mapping[tuple[str, str], Sources]
) -> list[str]:
    """How a cell's conditions differ from the baseline's, and what went wrong in its runs.

    Args:
        experiment: The experiment.
        row: The cell's row.
        column: Its column.
        sources: The parts of all cells, by row and column.
    """
    baseline = experiment.baseline_of(row.name)
    own, base = sources[row.name, column.label], sources[baseline, column.label] if baseline else []
    notes: list[str] = []
    for task in column.task:
        mine, theirs = (
            [conditions(source) for source in some if source.task.name == task] for some in (own, base)
        )
        if baseline and mine and theirs:
            notes += describe_differences(mine[0], theirs[0], baseline)
        for seed_conditions in mine[1:]:
            notes += describe_differences(seed_conditions, mine[0], "the first seed")
    notes += [note for run in _runs(own) for note in describe_forms(run)]
    for total, (noun, trouble) in TROUBLES.items():
        count = sum(getattr(run.totals, total) for run in _runs(own))
        if count:
            notes.append(f"{counted(count, noun)}{trouble}")
    if column.metric.startswith(JUDGED):
        unclear = sum(s.task.aggregates.get((UNCLEAR, s.filter), (0.0, None))[0] for s in own)
        if unclear:
            notes.append(
                f"{counted(int(unclear), 'unclear judge reply', 'unclear judge replies')}, counted as wrong"
            )
    return list(dict.fromkeys(notes))


def _runs(sources: Sources) -> list[Run]:
    return list({source.run.path: source.run for source in sources}.values())
