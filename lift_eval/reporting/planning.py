"""Which runs belong to which row of an experiment, and which are missing."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from lift_eval.errors import RecipeError, ResultsError
from lift_eval.reporting.experiment import Argument, Experiment, Row
from lift_eval.results.reading import Run, TaskResult, read_runs, results_files

if TYPE_CHECKING:
    from lift_eval.recipe import Recipe

NOT_IDENTITY = ("seed", "store", "device", "device_map", "batch_size", "max_batch_size", "workers")
"""Model arguments that say where and how often a row is run, not what it is, as do the groups below."""
NOT_IDENTITY_GROUPS = ("compute.", "workers.")
SET_BY_THE_RUN = {
    "seed",
    *(
        f"prompt.{key}"
        for key in ("chat_template", "chat_template_args", "enable_thinking", "system", "think_end")
    ),
}
"""Keys of a recipe that the tokenizer, lm-eval's flags or other model arguments may decide in a run."""
PLACES = ("data_dir", "data_files")
"""Settings of a task that say where its rows are, not what they are."""


def identity(model: str, arguments: Mapping[str, Any]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What makes two runs the same method: model class and arguments, without seed and machine."""
    kept = {
        key: _canonical(value)
        for key, value in arguments.items()
        if key not in NOT_IDENTITY and not key.startswith(NOT_IDENTITY_GROUPS)
    }
    return model, tuple(sorted(kept.items()))


def _canonical(value: object) -> str:
    """One spelling for values that YAML, JSON and a command line write differently: 5e-4, "5e-4", 0.0005."""
    if isinstance(value, list | tuple):
        return str([_canonical(one) for one in value])
    text = str(value).strip()
    try:
        return repr(float(text)) if not isinstance(value, bool) else text.lower()
    except ValueError:
        return text.lower() if text.lower() in ("true", "false", "none") else text


def recipe_of(experiment: Experiment, row: Row, task: str) -> Recipe:
    """The recipe that a row of our model class is run with on a task.

    Raises:
        ResultsError: If it cannot be used; with all its faults.
    """
    from lift_eval.recipe import (  # which takes longer than to read most results
        Recipe,
        default_recipe,
        load_recipe,
    )

    given = experiment.arguments(row, task)
    pretrained = given.get("pretrained")
    name = given.get("recipe") or default_recipe(None if pretrained is None else str(pretrained))
    dotted = {key for key in given if "." in key and not key.startswith("workers.")}
    keys = {key: value for key, value in given.items() if key in dotted | Recipe.model_fields.keys()}
    try:
        return load_recipe(str(name), keys)
    except RecipeError as error:
        raise ResultsError(f"row '{row.name}' of '{experiment.path}': {error}") from error


def check_recipes(experiment: Experiment, rows: Container[str]) -> None:
    """Refuse rows whose recipes cannot be used, before the runs of others take hours.

    Args:
        experiment: The experiment.
        rows: Names of the rows that are to be run.

    Raises:
        ResultsError: With the faults of the first such row.
    """
    for row in experiment.rows:
        if row.model == "lift" and row.name in rows:
            for task in experiment.tasks if row.task_args else experiment.tasks[:1]:
                recipe_of(experiment, row, task)


def runs_of_rows(experiment: Experiment, runs: Sequence[Run] | None = None) -> dict[str, list[Run]]:
    """The runs of each row, all seeds together.

    Args:
        experiment: Whose rows.
        runs: The runs to choose from. None means those in the experiment's results folder.

    Returns:
        By name of the row; an empty list where nothing was run.

    Raises:
        ResultsError: If a file cannot be trusted, or a row's own ``results`` is not there.
    """
    folder = experiment.results_folder
    if runs is None:
        runs = read_runs([folder]) if folder.is_dir() and any(results_files(folder)) else []
    own = {row.name: read_runs([experiment.folder / row.results]) for row in experiment.rows if row.results}
    return {
        row.name: own[row.name]
        if row.results
        else [run for run in runs if any(matches_row(experiment, row, task, run) for task in run.tasks)]
        for row in experiment.rows
    }


def matches_row(experiment: Experiment, row: Row, task: str, run: Run) -> bool:
    """Whether a run belongs to a row on a task: by model class, arguments, and the options that tell rows apart."""
    if row.results:
        return True
    if identity(run.model, run.model_args) != identity(row.model, experiment.arguments(row, task)):
        return False
    if row.model == "lift" and _recipe_file_differs(experiment, row, task, run):
        return False
    asked, given = (
        vars(experiment.row_options(row)),
        _options(run, run.tasks[task]) if task in run.tasks else {},
    )
    if row.model == "lift":
        asked = asked | {name: asked[name] or form for name, form in _recipes_form(run).items()}
    telling = {name for other in experiment.rows for name in other.options.model_fields_set}
    return all(_same_option(asked[name], given[name]) for name in telling & set(given))


def _recipe_file_differs(experiment: Experiment, row: Row, task: str, run: Run) -> bool:
    """Whether a row's recipe is a file that was changed after a run; one that cannot be read now is taken as it was."""
    named = str(experiment.arguments(row, task).get("recipe", ""))
    if not (named.endswith((".yaml", ".yml")) and run.recipe):
        return False
    from lift_eval.recipe import Recipe, differences

    try:
        now, then = recipe_of(experiment, row, task), Recipe.model_validate(run.recipe)
    except (ResultsError, ValidationError):
        return False
    return bool(differences(now, then).keys() - SET_BY_THE_RUN)


def _recipes_form(run: Run) -> dict[str, Any]:
    """The options by which lm-eval asks questions in the form of a run's recipe, as it does where a row names none."""
    prompt = run.recipe.get("prompt") or {}
    return {"apply_chat_template": prompt.get("chat_template"), "system_instruction": prompt.get("system")}


def _options(run: Run, task: TaskResult) -> dict[str, Any]:
    """The options of lm-eval that a task was run with, as far as the results say, by their names in `Options`."""
    return {
        "metadata": task.metadata,
        "gen_kwargs": run.config.get("gen_kwargs") or {},
        "limit": run.config.get("limit"),
        "apply_chat_template": bool(run.facts.get("chat_template")),
        "system_instruction": run.facts.get("system_instruction"),
    }


def _same_option(asked: object, given: object) -> bool:
    if isinstance(asked, Mapping) and isinstance(given, Mapping):
        mine, theirs = (
            {key: _canonical(value) for key, value in some.items() if key not in PLACES}
            for some in (asked, given)
        )
        return mine == theirs
    return _canonical(asked or None) == _canonical(given or None)


@dataclass(frozen=True)
class PlannedRun:
    """A run that an experiment needs and does not have.

    Attributes:
        row: Name of its row.
        model: Its model class.
        seed: Its seed.
        tasks: The tasks that are missing.
        output: Folder that it writes to.
        argv: The command, to be run as it stands.
    """

    row: str
    model: str
    seed: int
    tasks: tuple[str, ...]
    output: Path
    argv: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command as a user would copy it."""
        return shlex.join(("python", *self.argv[1:]))


def missing_runs(experiment: Experiment) -> list[PlannedRun]:
    """What has to be run before every cell of an experiment has a value.

    Rows with their own ``results`` are left out: how they were made is unknown.

    Returns:
        One run for each row, seed and set of arguments that lacks tasks, in the order of the rows.
    """
    return plan(experiment, runs_of_rows(experiment))


def plan(experiment: Experiment, runs: Mapping[str, Sequence[Run]]) -> list[PlannedRun]:
    """`missing_runs` for runs that have been read."""
    planned = []
    for row in experiment.rows:
        if row.results:
            continue
        for seed in experiment.row_seeds(row):
            groups: dict[tuple[tuple[str, Argument], ...], list[str]] = {}
            for task in experiment.tasks:
                if not any(
                    run.seed == seed and task in run.tasks and matches_row(experiment, row, task, run)
                    for run in runs[row.name]
                ):
                    groups.setdefault(tuple(experiment.arguments(row, task).items()), []).append(task)
            for arguments, tasks in groups.items():
                name = slug(row.name) if not row.task_args else f"{slug(row.name)}-{slug(tasks[0])}"
                output = experiment.results_folder / f"{name}-seed{seed}"
                argv = _argv(experiment, row, dict(arguments), seed, tasks, output)
                planned.append(PlannedRun(row.name, row.model, seed, tuple(tasks), output, argv))
    return planned


def slug(name: str) -> str:
    """A name as part of a file name: lower case, everything but letters and digits as hyphens."""
    words = "".join(letter if letter.isalnum() else " " for letter in name.lower()).split()
    return "-".join(words) or "row"


def _argv(
    experiment: Experiment,
    row: Row,
    arguments: dict[str, Argument],
    seed: int,
    tasks: Iterable[str],
    output: Path,
) -> tuple[str, ...]:
    options = experiment.row_options(row)
    argv = [sys.executable, "-m", "lm_eval", "run", "--model", row.model]
    if row.model == "lift":
        arguments = {**arguments, "seed": seed}
    if arguments:
        argv += ["--model_args", key_values(arguments)]
    named = (str(experiment.task_files.get(task, task)) for task in tasks)
    argv += ["--tasks", ",".join(named), "--output_path", str(output), "--log_samples"]
    if experiment.include_path:
        argv += ["--include_path", str(experiment.folder / experiment.include_path)]
    if row.model != "lift":
        argv += ["--seed", str(seed)]
    if options.metadata:
        argv += ["--metadata", json.dumps(options.metadata)]
    if options.gen_kwargs:
        argv += ["--gen_kwargs", key_values(options.gen_kwargs)]
    for name in ("limit", "num_fewshot", "batch_size", "device", "system_instruction"):
        value = getattr(options, name)
        if value is not None:
            argv += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    if options.apply_chat_template:
        argv.append("--apply_chat_template")
    return tuple(argv)


def key_values(values: Mapping[str, object]) -> str:
    """Arguments as lm-eval reads them: ``a=1,b=2``, or JSON where a value would be split at a comma."""
    if any(set(",={}[]") & set(str(value)) for value in values.values()):
        return json.dumps(values)
    return ",".join(f"{key}={value}" for key, value in values.items())
