"""The scores behind a cell of a comparison: found in the runs, and pooled over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from lift_eval.errors import ResultsError, nearest
from lift_eval.reporting import statistics
from lift_eval.reporting.experiment import Column, Experiment, Row
from lift_eval.reporting.planning import matches_row
from lift_eval.results.reading import Run, TaskResult
from lift_eval.results.samples import LoggedSample

SCORES_COLUMNS = (
    "row",
    "column",
    "task",
    "key",
    "document",
    "type",
    "depth",
    "pieces",
    "length",
    "numerator",
    "denominator",
)
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


@dataclass(frozen=True)
class Scores:
    """The question scores of one row and column, seeds pooled.

    A question that was asked with several seeds counts once, with its mean score: seeds say nothing about further
    questions or documents. Each document is fine-tuned again with each seed, independently of the others, so the
    bootstrap over documents covers the spread between seeds too.
    """

    frame: pd.DataFrame
    seeds: tuple[int, ...]
    seed_values: tuple[float, ...]
    binary: bool
    notes: tuple[str, ...] = ()

    def sums(self, keys: pd.Index | None = None) -> tuple[list[str], statistics.Floats, statistics.Floats]:
        """Documents, and sums of numerators and denominators, each of shape (tasks, documents)."""
        frame = self.frame if keys is None else self.frame.loc[keys]
        tasks, task_of = np.unique(frame.task.to_numpy(dtype=str), return_inverse=True)
        documents, document_of = np.unique(frame.document.to_numpy(dtype=str), return_inverse=True)
        shape = (len(tasks), len(documents))
        place = task_of * shape[1] + document_of
        numerators, denominators = (
            np.bincount(place, frame[name], minlength=shape[0] * shape[1]).astype(np.float64).reshape(shape)
            for name in ("numerator", "denominator")
        )
        return [str(document) for document in documents], numerators, denominators


def pool(column: Column, sources: Sources) -> Scores | None:
    """Pool the seeds of a cell. None means that a task of the column has no samples."""
    by_task: dict[str, list[Source]] = {}
    for source in sources:
        by_task.setdefault(source.task.name, []).append(source)
    if set(by_task) != set(column.task) or not all(source.samples for source in sources):
        return None
    frames = {(s.task.name, s.run.seed): _frame(s, column) for s in sources}
    notes = []
    pooled = []
    for name, parts in by_task.items():
        seeds = [frames[name, part.run.seed] for part in parts]
        shared = seeds[0].index
        for other in seeds[1:]:
            shared = shared.intersection(other.index, sort=False)
        largest = max(map(len, seeds))
        if len(shared) < largest:
            notes.append(
                f"seeds pooled on the {len(shared):,} of {largest:,} questions of {name} that all seeds have"
            )
        if shared.empty:
            notes.append(f"{name} has no matching question; the mean is over the other tasks")
        numerators = np.mean([frame.loc[shared, "numerator"] for frame in seeds], axis=0)
        pooled.append(seeds[0].loc[shared].assign(numerator=numerators))
    frame = pd.concat(pooled) if len(pooled) > 1 else pooled[0]
    if frame.empty:
        return None
    seeds_of = sorted({source.run.seed for source in sources})
    whole = [seed for seed in seeds_of if all((name, seed) in frames for name in by_task)]
    return Scores(
        frame=frame,
        seeds=tuple(seeds_of),
        seed_values=tuple(
            float(np.mean([_ratio(frames[name, seed]) for name in by_task if len(frames[name, seed])]))
            for seed in whole
        ),
        binary=bool(frame.numerator.isin([0.0, 1.0]).all() and (frame.denominator == 1).all()),
        notes=tuple(notes),
    )


def _ratio(frame: pd.DataFrame) -> float:
    return float(frame.numerator.sum() / frame.denominator.sum())


def _frame(source: Source, column: Column) -> pd.DataFrame:
    """The questions of a run that have the score, indexed by task and question."""
    samples = [
        sample
        for sample in source.samples
        if column.metric in sample.scores and column.type in (None, sample.type)
    ]
    scores = np.array([sample.scores[column.metric] for sample in samples], dtype=float).reshape(-1, 2)
    # Column by column: pandas takes several times as long to make a frame of records.
    return pd.DataFrame(
        {
            "task": [source.task.name] * len(samples),
            "key": [sample.key for sample in samples],
            "document": [sample.document for sample in samples],
            "type": [sample.type for sample in samples],
            "depth": np.array([sample.depth for sample in samples], dtype=float),
            "pieces": [len(sample.evidence) for sample in samples],
            "length": np.array([sample.length for sample in samples], dtype=float),
            "numerator": scores[:, 0],
            "denominator": scores[:, 1],
        },
        index=pd.Index([f"{source.task.name} {sample.key}" for sample in samples], name="index"),
    )


@dataclass(frozen=True)
class BinnedScore:
    """The score of some of a cell's questions, scaled as shown, with its 95 % interval (NaN for one document)."""

    value: float
    low: float
    high: float
    questions: int


def binned_scores(frame: pd.DataFrame, bins: np.ndarray[Any, Any], scale: float) -> dict[int, BinnedScore]:
    """Score the questions of each bin that has any.

    Args:
        frame: Questions of one row and column, as in `Comparison.scores`.
        bins: The number of each question's bin, shape (questions,).
        scale: Factor on the scores.
    """
    found = {}
    codes, _ = pd.factorize(frame.document)
    tops, bottoms = (frame[name].to_numpy() for name in ("numerator", "denominator"))
    for place in np.unique(bins):
        inside = bins == place
        _, documents = np.unique(codes[inside], return_inverse=True)
        numerators, denominators = (
            np.bincount(documents, values[inside])[None, :].astype(np.float64) for values in (tops, bottoms)
        )
        value = scale * statistics.mean_of_ratios(numerators, denominators)
        span = statistics.bootstrap_interval(numerators, denominators, resamples=BIN_RESAMPLES)
        found[int(place)] = BinnedScore(value, scale * span.low, scale * span.high, int(inside.sum()))
    return found
