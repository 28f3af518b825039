"""An experiment inferred from the runs that exist, without an experiment file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from lift_eval.errors import ResultsError, nearest
from lift_eval.reporting.experiment import Column, Experiment, Row
from lift_eval.reporting.planning import identity
from lift_eval.results.reading import Run, TaskResult

EXACT_MATCH = "exact_match"
PREFERRED_METRICS = (
    "judge_accuracy",
    EXACT_MATCH,
    "score",
    "acc_norm",
    "acc",
    "f1",
    "token_f1",
    "qa_f1_score",
    "rouge_l",
    "rouge_l_recall",
    "cloze_exact",
)
WORDS_TO_MATCH = 4
"""Answers with more words, in the median, are sentences, which exact match does not suit."""


def infer_experiment(runs: Sequence[Run], title: str, path: Path, metric: str | None = None) -> Experiment:
    """Infer a sensible experiment from the runs that exist.

    Rows are the different methods, named by what tells them apart; columns are the tasks by their usual score, which
    is not exact match where the right answers are sentences. The baseline is a run without adapter that reads the
    document in its prompt, else the first row.

    Args:
        runs: All runs.
        title: Of the report.
        path: Stands for the experiment file.
        metric: The score of every task that has it. None means the usual one.

    Raises:
        ResultsError: If the runs hold no score, or no task has the one asked for.
    """
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[Run]] = {}
    for run in runs:
        groups.setdefault(identity(run.model, run.model_args), []).append(run)
    names = dict(zip(groups, _row_names([group[0] for group in groups.values()]), strict=True))
    rows = [
        Row(
            name=names[key],
            model=group[0].model,
            model_args={
                k: v for k, v in group[0].model_args.items() if isinstance(v, (bool, int, float, str))
            },
            seeds=tuple(sorted({run.seed for run in group})),
        )
        for key, group in groups.items()
    ]
    reading = [names[key] for key, group in groups.items() if _reads_only(group[0])]
    baseline = reading[0] if reading else rows[0].name
    rows.sort(key=lambda row: row.name != baseline)
    columns = _infer_columns(runs, metric)
    if not columns:
        raise ResultsError(
            f"no score in {', '.join(str(run.path) for run in runs)}; every metric is a mere count"
        )
    return Experiment(title=title, rows=tuple(rows), columns=tuple(columns), baseline=baseline, path=path)


def _reads_only(run: Run) -> bool:
    adapter = run.recipe.get("adapter", {}).get("type")
    return adapter == "none" and bool(run.recipe.get("prompt", {}).get("document") != "none")


def _row_names(runs: Sequence[Run]) -> list[str]:
    """The recipe's name, with the model and with the arguments that differ where names would clash."""
    names = [str(run.recipe.get("name") or run.model) for run in runs]
    models = [
        Path(str(run.lift.get("pretrained") or run.model_args.get("pretrained") or "")).name for run in runs
    ]
    if len(set(models)) > 1:
        names = [f"{name} ({model})" if model else name for name, model in zip(names, models, strict=True)]
    clashing = {name for name in names if names.count(name) > 1}
    for index, run in enumerate(runs):
        if names[index] in clashing:
            others = [dict(identity("", other.model_args)[1]) for other in runs if other is not run]
            own = dict(identity("", run.model_args)[1])
            differing = {k: v for k, v in own.items() if any(other.get(k) != v for other in others)}
            differing.pop("pretrained", None)
            differing.pop("recipe", None)
            names[index] += "".join(f", {key}={value}" for key, value in differing.items())
    return [name if names.count(name) == 1 else f"{name} [{index + 1}]" for index, name in enumerate(names)]


def _infer_columns(runs: Sequence[Run], wanted: str | None) -> list[Column]:
    metrics: dict[tuple[str, str], list[str]] = {}
    tasks: dict[str, TaskResult] = {}
    for run in runs:
        for task in run.tasks.values():
            tasks.setdefault(task.name, task)
            for metric, filter_name in task.aggregates:
                if task.higher_is_better.get(metric) is not None:
                    known = metrics.setdefault((task.name, filter_name), [])
                    known += [metric] if metric not in known else []
    every = {name for names in metrics.values() for name in names}
    if wanted and wanted not in every:
        raise ResultsError(f"--metric must be a score of the results, got '{wanted}'{nearest(wanted, every)}")
    filters: dict[str, int] = {}
    for task_name, _ in metrics:
        filters[task_name] = filters.get(task_name, 0) + 1
    columns = []
    for (task_name, filter_name), names in sorted(metrics.items()):
        metric = wanted if wanted in names else _usual_metric(names, tasks[task_name])
        suffix = f", {filter_name}" if filters[task_name] > 1 else ""
        label = f"{task_name} ({metric.replace('_', ' ')}{suffix})"
        columns.append(Column(label=label, task=(task_name,), metric=metric, filter=filter_name))
    return columns


def _usual_metric(names: Sequence[str], task: TaskResult) -> str:
    """The first of `PREFERRED_METRICS` that a task has and that suits its answers, else whatever it has."""
    known = [name for name in PREFERRED_METRICS if name in names]
    if known and known[0] == EXACT_MATCH and _expects_sentences(task):
        known = [*known[1:], EXACT_MATCH]
    return known[0] if known else names[0]


def _expects_sentences(task: TaskResult) -> bool:
    """Whether the right answers, the shortest of each question, have many words; False where samples are missing."""
    lengths = [
        min(len(reference.split()) for reference in sample.references)
        for samples in task.samples.values()
        for sample in samples
    ]
    return bool(lengths) and median(lengths) > WORDS_TO_MATCH
