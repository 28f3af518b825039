"""The one object behind all tables and figures: rows against columns, with the data behind the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lift_eval.errors import counted
from lift_eval.record.record import STAGES, DocumentRecord
from lift_eval.reporting import statistics
from lift_eval.reporting.experiment import Column, Experiment, Row
from lift_eval.reporting.notes import JUDGED, notes_of_cell
from lift_eval.reporting.planning import PLACES, PlannedRun, plan, runs_of_rows
from lift_eval.reporting.published import PublishedRow, published_rows
from lift_eval.reporting.scores import Asked, QuestionScore, Scores, Source, Sources, find_sources, pool
from lift_eval.results.full_sizes import shortfall
from lift_eval.results.reading import Run
from lift_eval.results.samples import LoggedSample

ANSWERING = STAGES[-1]
FEW_DOCUMENTS = 10
"""Below this many documents a bootstrap interval is too narrow to be trusted; the report says so."""
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Cell:
    """One method on one score. Numbers are scaled as shown; those that do not exist are NaN.

    Attributes:
        row: Name of the method.
        column: Label of the score.
        status: ``measured``, ``not run``, or why there is no number.
        value: The score.
        low: Lower end of its 95 % interval.
        high: Upper end.
        difference: Score minus the baseline's, on the questions that both answered.
        difference_low: Lower end of its 95 % interval.
        difference_high: Upper end.
        bootstrap_p: Two-sided, paired bootstrap over documents.
        permutation_p: Two-sided, sign-flip permutation over documents.
        holm_p: ``permutation_p`` after Holm's correction over all methods and columns.
        mcnemar_p: Two-sided exact McNemar test; only for one seed and scores of 0 and 1.
        questions: Number of questions.
        documents: Number of documents.
        paired_questions: Questions that the baseline answered too.
        seeds: The seeds that are pooled.
        seed_deviation: Standard deviation of the score between seeds.
        best: Whether no method has a better score on the same questions.
        notes: What a reader must know before comparing the cell with others.
    """

    row: str
    column: str
    status: str = "measured"
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    difference: float = math.nan
    difference_low: float = math.nan
    difference_high: float = math.nan
    bootstrap_p: float = math.nan
    permutation_p: float = math.nan
    holm_p: float = math.nan
    mcnemar_p: float = math.nan
    questions: int = 0
    documents: int = 0
    paired_questions: int = 0
    seeds: tuple[int, ...] = ()
    seed_deviation: float = math.nan
    best: bool = False
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether there is a number."""
        return self.status == "measured"

    @property
    def significant(self) -> bool:
        """Whether the difference to the baseline holds after Holm's correction."""
        return self.holm_p < SIGNIFICANCE


@dataclass(frozen=True)
class Comparison:
    """Everything a report shows.

    Attributes:
        experiment: What was asked for, with scale and direction of each column filled in.
        runs: The runs of each row.
        cells: Row by row, column by column.
        scores: Every question of every measured cell, by row and column.
        samples: Every sample by row and task, of the first seed.
        documents: What the runs recorded of each document, by row; without requests aside, and with the time that
            reused parts took when they were made.
        published: Published figures.
        shortfalls: By how much runs fall short of the full benchmarks.
        missing: Runs that are still to be made.
    """

    experiment: Experiment
    runs: Mapping[str, Sequence[Run]]
    cells: tuple[Cell, ...]
    scores: Mapping[tuple[str, str], Sequence[QuestionScore]]
    samples: Mapping[tuple[str, str], Sequence[LoggedSample]]
    documents: Mapping[str, Sequence[DocumentRecord]]
    published: tuple[PublishedRow, ...]
    shortfalls: tuple[str, ...]
    missing: tuple[PlannedRun, ...]

    def cell(self, row: str, column: str) -> Cell:
        """The cell of a row and a column by their names."""
        return next(cell for cell in self.cells if (cell.row, cell.column) == (row, column))

    def column(self, label: str) -> Column:
        """A column by its label."""
        return next(column for column in self.experiment.columns if column.label == label)


def compare(experiment: Experiment, runs: Mapping[str, Sequence[Run]] | None = None) -> Comparison:
    """Read the runs of an experiment and compare them.

    Args:
        experiment: What to compare.
        runs: The runs of each row, if they have been read.

    Raises:
        ResultsError: If files cannot be trusted, two runs claim one cell, or a row has no such score.
    """
    runs = runs_of_rows(experiment) if runs is None else runs
    sources = {
        (row.name, column.label): find_sources(experiment, row, column, runs[row.name])
        for row in experiment.rows
        for column in experiment.columns
    }
    experiment = _completed(experiment, sources)
    scores = {
        (row.name, column.label): pool(column, sources[row.name, column.label])
        for row in experiment.rows
        for column in experiment.columns
    }
    cells = [
        _cell(experiment, row, column, sources, scores, runs[row.name])
        for row in experiment.rows
        for column in experiment.columns
    ]
    return Comparison(
        experiment=experiment,
        runs=runs,
        cells=tuple(_with_best(experiment, _with_holm(cells))),
        scores={place: list(own.questions.values()) for place, own in scores.items() if own is not None},
        samples=_samples_by_task(experiment, sources),
        documents={
            row.name: [_about_it(document) for run in runs[row.name] for document in run.documents]
            for row in experiment.rows
        },
        published=published_rows(experiment),
        shortfalls=tuple(_shortfalls(experiment, sources)),
        missing=tuple(plan(experiment, runs)),
    )


def _completed(experiment: Experiment, sources: Mapping[tuple[str, str], Sources]) -> Experiment:
    """Fill in what the runs say of the columns: their scale, and which way is better."""
    columns = []
    for column in experiment.columns:
        values = [
            source.task.aggregates[column.metric, source.filter][0]
            for row in experiment.rows
            for source in sources[row.name, column.label]
        ]
        guess = 1.0 if any(not 0 <= value <= 1 for value in values) else 100.0
        better = [
            source.task.higher_is_better.get(column.metric)
            for row in experiment.rows
            for source in sources[row.name, column.label]
        ]
        update = {
            "scale": guess if column.scale is None else column.scale,
            "higher_is_better": False not in better
            if column.higher_is_better is None
            else column.higher_is_better,
        }
        columns.append(column.model_copy(update=update))
    return experiment.model_copy(update={"columns": tuple(columns)})


# -------------------------------------------------------------------------------------------------------- the cells


def _cell(
    experiment: Experiment,
    row: Row,
    column: Column,
    sources: Mapping[tuple[str, str], Sources],
    scores: Mapping[tuple[str, str], Scores | None],
    runs: Sequence[Run],
) -> Cell:
    own_sources, own = sources[row.name, column.label], scores[row.name, column.label]
    absent = [task for task in column.task if task not in {source.task.name for source in own_sources}]
    if absent:
        return Cell(row.name, column.label, status=_absence(row, column, absent, runs))
    notes = notes_of_cell(experiment, row, column, sources)
    seeds = tuple(sorted({source.run.seed for source in own_sources}))
    if not row.results and (lacking := sorted(set(experiment.row_seeds(row)) - set(seeds))):
        notes.append(f"not run with seed {', '.join(map(str, lacking))}")
    if own is None:
        return _cell_without_samples(row, column, own_sources, notes)
    scale = column.scale or 1.0
    documents, numerators, denominators = own.sums()
    span = statistics.bootstrap_interval(numerators, denominators)
    cell = Cell(
        row.name,
        column.label,
        value=scale * statistics.mean_of_ratios(numerators, denominators),
        low=scale * span.low,
        high=scale * span.high,
        questions=len(own.questions),
        documents=len(documents),
        seeds=own.seeds,
        seed_deviation=scale * float(np.std(own.seed_values, ddof=1))
        if len(own.seed_values) > 1
        else math.nan,
        notes=(*notes, *own.notes),
    )
    baseline = experiment.baseline_of(row.name)
    base = scores[baseline, column.label] if baseline else None
    return cell if base is None else _against_baseline(cell, own, base, scale)


def _absence(row: Row, column: Column, tasks: Sequence[str], runs: Sequence[Run]) -> str:
    """Why a cell has no number: its tasks were not run, or they were and have no such score."""
    which = "" if len(tasks) == len(column.task) else f"{', '.join(tasks)} "
    held = [run.tasks[task] for run in runs for task in tasks if task in run.tasks]
    if not held:
        return f"{which}not run"
    if any(column.metric in task.unfinished for task in held):
        return f"{which}not finished"
    return f"{which}not judged" if column.metric.startswith(JUDGED) else f"{which}without {column.metric}"


def _cell_without_samples(row: Row, column: Column, sources: Sources, notes: list[str]) -> Cell:
    """A score whose samples were not kept, or which is of no single question: nothing to resample, nothing to pair."""
    if column.type is not None:
        return Cell(row.name, column.label, status=f"no samples of type {column.type}")
    by_task: dict[str, list[float]] = {}
    for source in sources:
        by_task.setdefault(source.task.name, []).append(
            source.task.aggregates[column.metric, source.filter][0]
        )
    return Cell(
        row.name,
        column.label,
        value=(column.scale or 1.0) * float(np.mean([np.mean(values) for values in by_task.values()])),
        questions=sum({source.task.name: source.task.questions for source in sources}.values()),
        seeds=tuple(sorted({source.run.seed for source in sources})),
        notes=(*notes, "no samples logged (--log_samples), so no interval and no test"),
    )


def _against_baseline(cell: Cell, own: Scores, base: Scores, scale: float) -> Cell:
    shared = own.shared(base)
    if not shared:
        return replace(cell, notes=(*cell.notes, "no question in common with the baseline, so not compared"))
    notes = list(cell.notes)
    if len(shared) < max(len(own.questions), len(base.questions)):
        notes.append(
            f"{counted(len(own.questions), 'question')} (baseline: {len(base.questions):,}), compared on the "
            f"{len(shared):,} in common"
        )
    _, method, denominators = own.sums(shared)
    _, baseline, _ = base.sums(shared)
    result = statistics.compare_paired(method, baseline, denominators)
    return replace(
        cell,
        difference=scale * result.difference,
        difference_low=scale * result.interval.low,
        difference_high=scale * result.interval.high,
        bootstrap_p=result.bootstrap_p,
        permutation_p=result.permutation_p,
        mcnemar_p=_mcnemar(own, base, shared),
        paired_questions=len(shared),
        notes=tuple(notes),
    )


def _mcnemar(own: Scores, base: Scores, shared: Sequence[Asked]) -> float:
    if not (own.binary and base.binary):
        return math.nan
    gains = [own.questions[asked].numerator - base.questions[asked].numerator for asked in shared]
    return statistics.mcnemar_p(gains.count(1), gains.count(-1))


def _with_holm(cells: Sequence[Cell]) -> Iterator[Cell]:
    """Correct the tests for their number: every method is tested in every column."""
    for cell, p in zip(cells, statistics.holm([cell.permutation_p for cell in cells]), strict=True):
        yield replace(cell, holm_p=p)


def _with_best(experiment: Experiment, cells: Iterator[Cell]) -> Iterator[Cell]:
    """Mark the best of each column among the methods that answered as many questions as any."""
    every = list(cells)
    best: dict[str, float] = {}
    for column in experiment.columns:
        own = [cell for cell in every if cell.column == column.label and cell.measured]
        full = [cell.value for cell in own if cell.questions == max(c.questions for c in own)]
        if len(full) > 1:
            best[column.label] = max(full) if column.higher_is_better else min(full)
    for cell in every:
        most = max((c.questions for c in every if c.column == cell.column), default=0)
        is_best = cell.measured and cell.value == best.get(cell.column) and cell.questions == most
        yield replace(cell, best=is_best)


# ----------------------------------------------------------------------------------------------------- what else is


def _samples_by_task(
    experiment: Experiment, sources: Mapping[tuple[str, str], Sources]
) -> dict[tuple[str, str], Sequence[LoggedSample]]:
    samples: dict[tuple[str, str], Sequence[LoggedSample]] = {}
    for row in experiment.rows:
        for column in experiment.columns:
            for source in sources[row.name, column.label]:
                if source.samples:
                    samples.setdefault((row.name, source.task.name), source.samples)
    return samples


def _about_it(document: DocumentRecord) -> DocumentRecord:
    """What was recorded of a document, without requests that ask nothing about it."""
    aside, operations = document.aside, dict(document.operations)
    if ANSWERING in operations:
        operations[ANSWERING] -= aside.operations
    # What came from the store took its time when it was made.
    spent, reused = document.seconds, document.reused_seconds
    seconds = {stage: spent.get(stage, 0.0) + reused.get(stage, 0.0) for stage in STAGES}
    seconds[ANSWERING] -= aside.seconds
    return document.model_copy(
        update={
            "prompt_tokens": document.prompt_tokens - aside.prompt_tokens,
            "answer_tokens": document.answer_tokens - aside.answer_tokens,
            "operations": operations,
            "seconds": seconds,
        }
    )


def _shortfalls(experiment: Experiment, sources: Mapping[tuple[str, str], Sources]) -> Iterator[str]:
    """Say for each task how far the runs are from the full benchmark; rows with the same lack share a sentence."""
    lacks: dict[tuple[str, str], list[str]] = {}
    for row in experiment.rows:
        found: dict[str, Source] = {}
        for column in experiment.columns:
            for source in sources[row.name, column.label]:
                found.setdefault(source.task.name, source)
        for task, source in found.items():
            if lack := _shortfall_of(source):
                lacks.setdefault((task, lack), []).append(row.name)
    for (task, lack), rows in lacks.items():
        whose = "" if len(lacks) == len({task for task, _ in lacks}) else f" ({', '.join(rows)})"
        yield f"{task}: {lack}{whose}"


def _shortfall_of(source: Source) -> str | None:
    task = source.task
    own_files = any(task.metadata.get(place) for place in PLACES)
    return shortfall(
        task.name,
        task.questions,
        len({sample.document for sample in source.samples}) or None,
        own_questions=task.available or None if own_files else None,
    )
