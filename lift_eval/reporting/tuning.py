"""Tuning: every method of an experiment is tried with the same grid on development documents, and the best is kept.

    tune:
      column: Token F1                              # the score that decides
      options: {metadata: {split: development}}     # the documents to try on
      rates: [1, 0.3, 3]                            # factors on each recipe's learning rate
      epochs: [1, 0.5]                              # factors on its epochs

All rates are tried with the first of the epochs, and all epochs with the first of the rates.
Rows that train alike, such as a method and its closed-book form, are tried once, as the first of them, and share what
is chosen. The trials are an experiment of their own, ``NAME/tuning.yaml`` beside ``NAME.yaml``; its report is the log.
The choice is in ``NAME/tuned.yaml``, which the experiment uses from then on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lift_eval.errors import ResultsError
from lift_eval.files import write_whole
from lift_eval.recipe import Recipe, TrainingSettings
from lift_eval.reporting.comparison import Comparison
from lift_eval.reporting.experiment import Experiment, Scalar, Tuning, read_mapping
from lift_eval.reporting.planning import recipe_of

TRIALS = "tuning.yaml"
"""The experiment of the trials, beside what was selected."""
Trials = dict[str, dict[str, dict[str, Scalar]]]
"""By row, the keys of each trial by the trial's name."""


def trials_of(experiment: Experiment) -> Trials:
    """The trials of the first of each rows that train alike.

    Raises:
        ResultsError: If the experiment does not say how to tune, no row trains, or a row's recipe cannot be used.
    """
    tune = experiment.tune
    if tune is None:
        raise ResultsError(
            f"'{experiment.path}' has no 'tune', which lists the documents and the factors to try; see docs/reports.md"
        )
    trials = {
        rows[0]: {f"{rows[0]}: {_words(values)}": values for values in _grid(recipe.training, tune)}
        for recipe, rows in _trained_alike(experiment, tune)
    }
    if not trials:
        raise ResultsError(
            f"no row of '{experiment.path}' trains anything, so there is nothing to tune; remove 'tune'"
        )
    return trials


def untuned_rows(experiment: Experiment) -> list[str]:
    """Names of the rows that train and for which nothing was selected yet, though the experiment says how to tune.

    Raises:
        ResultsError: If a row's recipe cannot be used.
    """
    if experiment.tune is None or experiment.tuned is None:
        return []
    chosen = read_mapping(experiment.tuned) if experiment.tuned.is_file() else {}
    alike = _trained_alike(experiment, experiment.tune)
    return [name for _, rows in alike for name in rows if name not in chosen]


def tuned_with(experiment: Experiment) -> str | None:
    """The base model with which the settings of another file's rows were selected. None means the experiment's own."""
    if experiment.tune is not None or experiment.tuned is None:
        return None
    trials = experiment.tuned.with_name(TRIALS)
    theirs = (read_mapping(trials).get("model_args") or {}).get("pretrained") if trials.is_file() else None
    ours = experiment.model_args.get("pretrained")
    return str(theirs) if theirs is not None and theirs != ours else None


def _trained_alike(experiment: Experiment, tune: Tuning) -> list[tuple[Recipe, list[str]]]:
    """The recipes that train, each with the rows that train alike for the column that decides."""
    deciding = next(column.task[0] for column in experiment.columns if column.label == tune.column)
    found: dict[str, tuple[Recipe, list[str]]] = {}
    for row in experiment.rows:
        if row.model != "lift" or row.results:
            continue
        recipe = recipe_of(experiment, row, deciding)
        if recipe.trains:
            found.setdefault(recipe.training_digest, (recipe, []))[1].append(row.name)
    return list(found.values())


def _grid(training: TrainingSettings, tune: Tuning) -> list[dict[str, Scalar]]:
    return [
        {
            "training.learning_rate": float(f"{training.learning_rate * rate:.3g}"),
            **{
                f"training.{stage}": max(1, round(count * factor))
                for stage in ("context_epochs", "joint_epochs")
                if (count := getattr(training, stage))
            },
        }
        for rate, factor in _factors(tune)
    ]


def _factors(tune: Tuning) -> list[tuple[float, float]]:
    """The factors on the rate and on the epochs of each trial: one of them at a time leaves its first value."""
    return [(rate, tune.epochs[0]) for rate in tune.rates] + [
        (tune.rates[0], factor) for factor in tune.epochs[1:]
    ]


def _words(values: Mapping[str, Scalar]) -> str:
    rate, *epochs = values.values()
    return f"rate {rate:g}, {'+'.join(map(str, epochs))} epochs"


def write_trials(experiment: Experiment, trials: Trials) -> Path:
    """Write the experiment of all trials.

    Args:
        experiment: The experiment to tune.
        trials: Its trials.

    Returns:
        The file.
    """
    assert experiment.tune is not None
    assert experiment.tuned is not None
    by_name = {row.name: row for row in experiment.rows}
    (column,) = (column for column in experiment.columns if column.label == experiment.tune.column)
    tried = {experiment.baseline: {experiment.baseline: dict[str, Scalar]()}, **trials}
    rows = [
        by_name[row].model_copy(
            update={
                "name": name,
                "model_args": {**by_name[row].model_args, **values},
                "task_args": {
                    task: given for task, given in by_name[row].task_args.items() if task in column.task
                },
                "baseline": None,
            }
        )
        for row, some in tried.items()
        for name, values in some.items()
    ]
    folder = experiment.tuned.parent
    options = experiment.options.model_copy(
        update=experiment.tune.options.model_dump(include=experiment.tune.options.model_fields_set)
    )
    made: dict[str, Any] = {
        "title": f"Tuning: {experiment.title}",
        "description": (
            f"Every method is tried with the same grid on development documents. The best {experiment.tune.column} "
            "wins, and the first of equal trials."
        ),
        "results": "tuning/results",
        "baseline": rows[0].name,
        "model_args": experiment.model_args,
        "options": options.model_dump(exclude_defaults=True),
        "seeds": list(experiment.seeds[:1]),
        "rows": [row.model_dump(exclude_defaults=True, exclude={"seeds"}) for row in rows],
        "columns": [
            {
                **column.model_dump(exclude_defaults=True),
                "task": [_place(experiment, task, folder) for task in column.task],
            }
        ],
    }
    if experiment.include_path:
        made["include_path"] = os.path.relpath(experiment.folder / experiment.include_path, folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / TRIALS
    write_whole(path, yaml.safe_dump(made, sort_keys=False, allow_unicode=True).encode())
    return path


def _place(experiment: Experiment, task: str, folder: Path) -> str:
    file = experiment.task_files.get(task)
    return task if file is None else os.path.relpath(file, folder)


def choose(comparison: Comparison, experiment: Experiment, trials: Trials) -> dict[str, dict[str, Scalar]]:
    """The keys of the best trial by the column that decides, for each row; of equal trials, the first.

    Args:
        comparison: Of the trials.
        experiment: The experiment to tune.
        trials: Its trials.

    Raises:
        ResultsError: If a trial has no score.
    """
    assert experiment.tune is not None
    column = experiment.tune.column
    sign = -1 if comparison.column(column).higher_is_better is False else 1
    chosen: dict[str, dict[str, Scalar]] = {}
    for _, rows in _trained_alike(experiment, experiment.tune):
        some = trials[rows[0]]
        scores = {name: sign * comparison.cell(name, column).value for name in some}
        if any(math.isnan(score) for score in scores.values()):
            lacking = next(name for name, score in scores.items() if math.isnan(score))
            raise ResultsError(f"trial '{lacking}' has no score '{column}'; start again with lift-eval tune")
        best = max(scores, key=scores.__getitem__)
        chosen |= dict.fromkeys(rows, some[best])
    return chosen


def write_chosen(experiment: Experiment, chosen: Mapping[str, Mapping[str, Scalar]]) -> Path:
    """Write what was chosen, by row, where the experiment finds it.

    Returns:
        The file.
    """
    assert experiment.tuned is not None
    text = "# Written by lift-eval tune; the trials are in tuning/.\n"
    text += yaml.safe_dump(
        {row: dict(keys) for row, keys in chosen.items()}, sort_keys=False, allow_unicode=True
    )
    write_whole(experiment.tuned, text.encode())
    return experiment.tuned
