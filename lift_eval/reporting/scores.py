"""The scores behind a cell of a comparison: found in the runs, and pooled over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np

from lift_eval.errors import ResultsError, nearest
from lift_eval.reporting import statistics
from lift_eval.reporting.experiment import Column, Experiment, Row
from lift_eval.reporting.planning import matches_row
from lift_eval.results.reading import Run, TaskResult
from lift_eval.results.samples import LoggedSample

BIN_RESAMPLES = 2_000
"""For the interval of a subset of the questions; figures and tables have many."""


@dataclass(frozen=True)
class Source:
    """The part of a cell that one run holds: a task with one seed."""

    run: Run
    task: TaskResult
    filter: str
    samples: Sequence[LoggedSample] = field(repr=False)


Sources: TypeAlias = list[Source]
"""All parts of a cell, by task and seed."""


def find_sources(experiment: Experiment, row: Row, column: Column, runs: Sequence[Run]) -> Sources:
    """Find the runs of a cell: one for each task and seed.

    Raises:
        ResultsError: If two different runs claim the same task and seed.
    """
    found: dict[tuple[str, int], Source] = {}
    for run in runs:
        for name in column.task:
            task = run.tasks.get(name)
            if task is None or column.metric not in {metric for metric, _ in task.aggregates}:
                continue
            if not matches_row(experiment, row, name, run):
                continue
            if not row.results and run.seed not in experiment.row_seeds(row):
                continue
            source = _source(run, task, column)
            other = found.setdefault((name, run.seed), source)
            if other is not source and not _same_scores(other, source, column):
                raise ResultsError(
                    f"two runs for row '{row.name}', column '{column.label}', task {name}, seed {run.seed}: "
                    f"{other.run.path} and {run.path}; delete or move one, or tell them apart with 'results' of a "
                    "row: the newer one is not chosen silently"
                )
    return [found[name, seed] for name in column.task for seed in sorted({s for t, s in found if t == name})]


def _source(run: Run, task: TaskResult, column: Column) -> Source:
    filters = [name for metric, name in task.aggregates if metric == column.metric]
    chosen = column.filter or filters[0]
    if column.filter is None and len(filters) > 1:
        raise ResultsError(
            f"column '{column.label}': task {task.name} has the filters {', '.join(filters)} in {run.path}; choose one "
            "with 'filter'"
        )
    if chosen not in filters:
        raise ResultsError(
            f"column '{column.label}': task {task.name} has no filter '{chosen}' in {run.path}"
            f"{nearest(chosen, filters)}"
        )
    return Source(run, task, chosen, task.samples.get(chosen, ()))


def _same_scores(left: Source, right: Source, column: Column) -> bool:
    """Whether two runs say the same, e.g. a run and its copy with a judge's verdicts added."""
    if not left.samples or not right.samples:
        return False
    of_left, of_right = (
        {sample.key: (sample.answer, sample.scores.get(column.metric)) for sample in source.samples}
        for source in (left, right)
    )
    return of_left == of_right


class QuestionScore(NamedTuple):
    """The score of a question in a cell, the mean of its seeds.

    Attributes:
        task: Its task.
        key: Hash of document and question.
        document: Hash of the document.
        type: Kind of question, empty where the task has none.
        depth: Where the evidence begins in the document, 0 to 1, or None.
        pieces: Number of sentences that prove the answer.
        length: Length of the document in tokens where the task states it (needle in a haystack).
        numerator: The score's.
        denominator: Its weight.
    """

    task: str
    key: str
    document: str
    type: str
    depth: float | None
    pieces: int
    length: int | None
    numerator: float
    denominator: float


Asked: TypeAlias = tuple[str, str]
"""Task and key: what a question is known by in every run."""


@dataclass(frozen=True)
class Scores:
    """The question scores of one row and column, seeds pooled.

    A question that was asked with several seeds counts once, with its mean score: seeds say nothing about further
    questions or documents. Each document is fine-tuned again with each seed, independently of the others, so the
    bootstrap over documents covers the spread between seeds too.
    """

    questions: Mapping[Asked, QuestionScore]
    seeds: tuple[int, ...]
    seed_values: tuple[float, ...]
    binary: bool
    notes: tuple[str, ...] = ()

    def shared(self, other: Scores) -> list[Asked]:
        """The questions that another cell has too."""
        return [asked for asked in self.questions if asked in other.questions]

    def sums(
        self, of: Iterable[Asked] | None = None
    ) -> tuple[list[str], statistics.Floats, statistics.Floats]:
        """Documents, and sums of numerators and denominators, each of shape (tasks, documents).

        Args:
            of: The questions to add up. None means all.
        """
        chosen = [self.questions[asked] for asked in (self.questions if of is None else of)]
        tasks = sorted({question.task for question in chosen})
        documents = sorted({question.document for question in chosen})
        return documents, *_sums(chosen, {task: part for part, task in enumerate(tasks)}, documents)


def _sums(
    questions: Sequence[QuestionScore], parts: Mapping[str, int], documents: Sequence[str]
) -> tuple[statistics.Floats, statistics.Floats]:
    """Sums of numerators and denominators, each of shape (parts, documents); ``parts`` has the part of each task."""
    columns = {document: column for column, document in enumerate(documents)}
    shape = len(set(parts.values())), len(columns)
    places = [shape[1] * parts[question.task] + columns[question.document] for question in questions]
    numerators, denominators = (
        np.bincount(places, values, minlength=shape[0] * shape[1]).astype(np.float64).reshape(shape)
        for values in zip(
            *((question.numerator, question.denominator) for question in questions), strict=True
        )
    )
    return numerators, denominators


def pool(column: Column, sources: Sources) -> Scores | None:
    """Pool the seeds of a cell. None means that a task of the column has no samples."""
    by_task: dict[str, list[Source]] = {}
    for source in sources:
        by_task.setdefault(source.task.name, []).append(source)
    if set(by_task) != set(column.task) or not all(source.samples for source in sources):
        return None
    found = {(s.task.name, s.run.seed): _questions(s, column) for s in sources}
    notes = []
    pooled: dict[Asked, QuestionScore] = {}
    for name, parts in by_task.items():
        seeds = [found[name, part.run.seed] for part in parts]
        shared = [asked for asked in seeds[0] if all(asked in own for own in seeds)]
        largest = max(map(len, seeds))
        if len(shared) < largest:
            notes.append(
                f"seeds pooled on the {len(shared):,} of {largest:,} questions of {name} that all seeds have"
            )
        if not shared:
            notes.append(f"{name} has no matching question; the mean is over the other tasks")
        for asked in shared:
            mean = sum(own[asked].numerator for own in seeds) / len(seeds)
            pooled[asked] = seeds[0][asked]._replace(numerator=mean)
    if not pooled:
        return None
    seeds_of = sorted({source.run.seed for source in sources})
    whole = [seed for seed in seeds_of if all((name, seed) in found for name in by_task)]
    return Scores(
        questions=pooled,
        seeds=tuple(seeds_of),
        seed_values=tuple(
            float(np.mean([_ratio(found[name, seed]) for name in by_task if found[name, seed]]))
            for seed in whole
        ),
        binary=all(one.numerator in (0, 1) and one.denominator == 1 for one in pooled.values()),
        notes=tuple(notes),
    )


def _ratio(questions: Mapping[Asked, QuestionScore]) -> float:
    tops, bottoms = zip(*((one.numerator, one.denominator) for one in questions.values()), strict=True)
    return float(np.sum(tops) / np.sum(bottoms))


def _questions(source: Source, column: Column) -> dict[Asked, QuestionScore]:
    """The questions of a run that have the score."""
    task = source.task.name
    return {
        (task, sample.key): QuestionScore(
            task,
            sample.key,
            sample.document,
            sample.type,
            sample.depth,
            len(sample.evidence),
            sample.length,
            *sample.scores[column.metric],
        )
        for sample in source.samples
        if column.metric in sample.scores and column.type in (None, sample.type)
    }


@dataclass(frozen=True)
class BinnedScore:
    """The score of some of a cell's questions, scaled as shown, with its 95 % interval (NaN for one document)."""

    value: float
    low: float
    high: float
    questions: int


def binned_scores(
    questions: Sequence[QuestionScore], bins: Sequence[int], scale: float
) -> dict[int, BinnedScore]:
    """Score the questions of each bin that has any.

    Args:
        questions: Questions of one row and column.
        bins: The number of each question's bin.
        scale: Factor on the scores.
    """
    inside: defaultdict[int, list[QuestionScore]] = defaultdict(list)
    for question, place in zip(questions, bins, strict=True):
        inside[place].append(question)
    order = {
        document: place for place, document in enumerate(dict.fromkeys(one.document for one in questions))
    }
    found = {}
    for place, own in sorted(inside.items()):
        documents = sorted({question.document for question in own}, key=order.__getitem__)
        numerators, denominators = _sums(own, dict.fromkeys((one.task for one in own), 0), documents)
        value = scale * statistics.mean_of_ratios(numerators, denominators)
        span = statistics.bootstrap_interval(numerators, denominators, resamples=BIN_RESAMPLES)
        found[place] = BinnedScore(value, scale * span.low, scale * span.high, len(own))
    return found
