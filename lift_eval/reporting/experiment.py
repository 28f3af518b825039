"""Experiment files: which methods (rows) are compared on which scores (columns), and where their runs are.

    title: ICL against LIFT on LooGLE
    results: results/loogle                    # folder of lm-eval's files, relative to this file
    baseline: ICL
    rows:
      - {name: ICL,  model_args: {pretrained: M, recipe: llama3_loogle_icl}}
      - {name: LIFT, model_args: {pretrained: M, recipe: llama3_loogle}}
    columns:
      - {label: ShortQA, task: loogle_shortqa, metric: judge_accuracy}
    published: {file: published.yaml, table: loogle, columns: {ShortQA: shortqa}}

Another file may take its rows and what else it lacks from this one, ``extends: FILE``, so that the same methods run on
other columns. A task may also be your own task file, ``task: mine.yaml``, or be in the folder ``include_path:
my_tasks``. A run belongs to a row if model class and arguments agree, wherever in the results folder it lies; or it
lies in the row's own ``results``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lift_eval.errors import RecipeError, ResultsError, nearest, sentences_of
from lift_eval.files import read_yaml

_OF_ONE_FILE = ("title", "description", "results", "tune")
_TASK_KEYS = re.compile(r"""^(task|include): *["']?([^\s"'#\[]+)""", re.MULTILINE)

Scalar: TypeAlias = bool | int | float | str
Argument: TypeAlias = Scalar | tuple[Scalar, ...]
"""A value of a model argument; a recipe has keys that take lists."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, (str, int)) else value


Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]
Factors: TypeAlias = Annotated[
    tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1)
]
Seeds: TypeAlias = Annotated[tuple[int, ...], BeforeValidator(_as_list), Field(min_length=1)]


class ExperimentPart(BaseModel):
    """Base of all parts of an experiment file: no unknown keys, no change after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunOptions(ExperimentPart):
    """Options of ``lm_eval run`` that every row or one row is run with."""

    metadata: dict[str, Any] = {}
    gen_kwargs: dict[str, Scalar] = {}
    limit: float | None = None
    num_fewshot: int | None = None
    apply_chat_template: bool = False
    system_instruction: str | None = None
    batch_size: int | str | None = None
    device: str | None = None


class Row(ExperimentPart):
    """A method: a line of the tables.

    Attributes:
        name: What the tables call it.
        model: lm-eval's model class.
        model_args: Its arguments; those of the experiment come first.
        task_args: Arguments that differ for a task, e.g. where each has its own recipe.
        options: Options of lm-eval that differ from the experiment's.
        seeds: Seeds that differ from the experiment's.
        baseline: The row that it is compared with, where that is not the experiment's baseline.
        results: Folder or file of this row's runs, whatever their arguments; for runs made elsewhere.
    """

    name: Annotated[str, Field(min_length=1)]
    model: str = "lift"
    model_args: dict[str, Argument] = {}
    task_args: dict[str, dict[str, Argument]] = {}
    options: RunOptions = RunOptions()
    seeds: Seeds | None = None
    baseline: str | None = None
    results: str | None = None


class Tuning(ExperimentPart):
    """How ``lift-eval tune`` chooses each method's learning rate and number of epochs: for all by the same rule.

    Attributes:
        column: The score that decides.
        options: Options of lm-eval that differ from the experiment's, such as the metadata of development documents.
        rates: Factors on the recipe's learning rate.
        epochs: Factors on its epochs.
    """

    column: str
    options: RunOptions
    rates: Factors = (1.0, 0.3, 3.0)
    epochs: Factors = (1.0, 0.5)


class Column(ExperimentPart):
    """A score: a column of the tables.

    Attributes:
        label: What the tables call it.
        task: A task, or several of which the mean is taken (a group). A path that ends in ``.yaml`` is a task file of
            your own, relative to the experiment file; once read it is the name that the file gives the task.
        metric: lm-eval's name of the score.
        filter: lm-eval's name of the answer filter; needed where a task has several.
        type: Only questions of this type.
        scale: Factor on the scores. None means 100 where all scores are between 0 and 1, else 1.
        higher_is_better: Whether a higher score is better. None means that the task says so itself.
        decimals: Digits after the decimal point.
    """

    label: str
    task: Names
    metric: str
    filter: str | None = None
    type: str | None = None
    scale: float | None = None
    higher_is_better: bool | None = None
    decimals: Annotated[int, Field(ge=0, le=6)] = 1


class Published(ExperimentPart):
    """Published figures, shown beside your own.

    Attributes:
        file: File of figures, relative to the experiment file; see reports/published.yaml.
        table: Name of a table in it.
        columns: Column label to column of that table.
        models: Only rows of these models. An empty tuple means all.
    """

    file: str = "published.yaml"
    table: str
    columns: dict[str, str]
    models: tuple[str, ...] = ()


class Experiment(ExperimentPart):
    """What an experiment file says; see the module.

    Attributes:
        title: Heading of the report.
        description: A paragraph below it.
        results: Folder of the runs, relative to the experiment file.
        include_path: Folder of your own tasks, relative to the experiment file.
        model_args: Arguments of every row.
        options: Options of lm-eval for every row.
        seeds: Every row is run once for each.
        rows: The methods.
        columns: The scores.
        baseline: Name of the row that the others are compared with.
        published: Published figures to show beside.
        tune: How its methods are tuned. None means that they are run as they stand.
        extends: The experiment file in the same folder whose keys it takes where it has none of its own; its
            results and how it is tuned stay with that file.
        path: The experiment file; set when it is read.
        tuned: Where ``lift-eval tune`` writes what it selects for the rows; set when it is read. None means that the
            rows are not tuned.
        task_files: Your own task files, by the names of their tasks; set when it is read.
    """

    title: str
    description: str = ""
    results: str = "results"
    include_path: str | None = None
    model_args: dict[str, Argument] = {}
    options: RunOptions = RunOptions()
    seeds: Seeds = (0,)
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    baseline: str
    published: tuple[Published, ...] = ()
    tune: Tuning | None = None
    extends: str | None = None
    path: Path = Path("experiment.yaml")
    tuned: Path | None = None
    task_files: dict[str, Path] = {}

    @model_validator(mode="after")
    def _names_agree(self) -> Experiment:
        for kind, names in (
            ("rows", [r.name for r in self.rows]),
            ("columns", [c.label for c in self.columns]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"'{kind}' must have different names, got '{twice[0]}' twice")
        rows = [row.name for row in self.rows]
        for name in (self.baseline, *(row.baseline for row in self.rows if row.baseline)):
            if name not in rows:
                raise ValueError(f"'baseline' must be the name of a row, got '{name}'{nearest(name, rows)}")
        tasks = self.tasks
        for row in self.rows:
            for task in row.task_args:
                if task not in tasks:
                    raise ValueError(
                        f"'task_args' of row '{row.name}' must name tasks of the columns, got '{task}'"
                        f"{nearest(task, tasks)}"
                    )
        labels = [column.label for column in self.columns]
        if self.tune is not None and self.tune.column not in labels:
            raise ValueError(
                f"'tune.column' must be a column, got '{self.tune.column}'{nearest(self.tune.column, labels)}"
            )
        for label in (label for table in self.published for label in table.columns):
            if label not in labels:
                raise ValueError(
                    f"'published.columns' must name columns, got '{label}'{nearest(label, labels)}"
                )
        return self

    @property
    def folder(self) -> Path:
        """The folder that relative paths of the file start from."""
        return self.path.parent

    @property
    def results_folder(self) -> Path:
        """Where the runs are."""
        return Path(os.path.normpath(self.folder / self.results))

    def arguments(self, row: Row, task: str) -> dict[str, Argument]:
        """A row's model arguments for a task, those of the experiment included."""
        return {**self.model_args, **row.model_args, **row.task_args.get(task, {})}

    def row_options(self, row: Row) -> RunOptions:
        """A row's options of lm-eval, those of the experiment included."""
        own = row.options.model_dump(include=row.options.model_fields_set)
        return self.options.model_copy(update=own)

    def row_seeds(self, row: Row) -> tuple[int, ...]:
        """The seeds that a row is run with."""
        return self.seeds if row.seeds is None else row.seeds

    @property
    def baselines(self) -> frozenset[str]:
        """The rows that others are compared with; they are compared with nothing themselves."""
        return frozenset({self.baseline} | {row.baseline for row in self.rows if row.baseline})

    def baseline_of(self, row: str) -> str | None:
        """Name of the row that a row is compared with; None for a baseline."""
        if row in self.baselines:
            return None
        return next(other.baseline or self.baseline for other in self.rows if other.name == row)

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks of the columns, in their order, each once."""
        return tuple(dict.fromkeys(task for column in self.columns for task in column.task))


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that must hold a mapping; as bounded as a recipe, since it may come from anyone.

    Raises:
        ResultsError: If it is not there, too large or deep, not YAML or no mapping.
    """
    try:
        return read_yaml(path, str(path))
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ResultsError(f"'{path}' cannot be read ({reason}); name an experiment file") from error
    except RecipeError as error:
        raise ResultsError(str(error)) from error


def load_experiment(path: str | Path, *, tuned: bool = True) -> Experiment:
    """Read and check an experiment file.

    Args:
        path: The file.
        tuned: Whether to take what was chosen for its rows.

    Raises:
        ResultsError: With all its faults.
    """
    path = Path(path)
    data = read_mapping(path)
    tuned_as = path if data.get("tune") else None
    if "extends" in data:
        base_path = path.parent / str(data["extends"])
        near = base_path.is_file() and base_path.parent == path.parent
        base = read_mapping(base_path) if near else {}
        if not near or "extends" in base:
            raise ResultsError(
                f"{path}: 'extends' must name an experiment file that extends none, in the same folder, got "
                f"'{data['extends']}'"
            )
        tuned_as = tuned_as or (base_path if base.get("tune") else None)
        data = {key: value for key, value in base.items() if key not in _OF_ONE_FILE} | data
    found = {"path": path, "tuned": tuned_as and tuned_as.with_suffix("") / "tuned.yaml"}
    try:
        experiment = Experiment.model_validate(data | found)
    except ValidationError as error:
        raise ResultsError(f"{path}: {'; '.join(sentences_of(error, Experiment))}") from None
    experiment = _with_task_names(experiment)
    return _with_selected(experiment) if tuned else experiment


def _with_selected(experiment: Experiment) -> Experiment:
    """The experiment with the values that were chosen for its rows, where it is tuned and that is done."""
    if experiment.tuned is None or not experiment.tuned.is_file():
        return experiment
    chosen = read_mapping(experiment.tuned)
    rows = [
        row.model_copy(update={"model_args": {**row.model_args, **(chosen.get(row.name) or {})}})
        for row in experiment.rows
    ]
    return experiment.model_copy(update={"rows": tuple(rows)})


def _with_task_names(experiment: Experiment) -> Experiment:
    """The experiment with tasks by their names, as results have them, where it names files."""
    files = {task: experiment.folder / task for task in experiment.tasks if task.endswith((".yaml", ".yml"))}
    names = {task: _name_in(file) for task, file in files.items()}
    columns = [
        column.model_copy(update={"task": tuple(names.get(task, task) for task in column.task)})
        for column in experiment.columns
    ]
    rows = [
        row.model_copy(
            update={"task_args": {names.get(task, task): given for task, given in row.task_args.items()}}
        )
        for row in experiment.rows
    ]
    by_name = {names[task]: file for task, file in files.items()}
    return experiment.model_copy(
        update={"columns": tuple(columns), "rows": tuple(rows), "task_files": by_name}
    )


def _name_in(file: Path) -> str:
    """The name that a task file gives its task, itself or by the file that it includes.

    Raises:
        ResultsError: If there is no such file, or it names no task.
    """
    seen: set[Path] = set()
    while file not in seen:
        seen.add(file)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ResultsError(f"task file '{file}' cannot be read ({error}); name one in 'task'") from error
        # Not parsed: task files name functions, which a report has no use for.
        found: dict[str, str] = dict(_TASK_KEYS.findall(text))
        if "task" in found:
            return found["task"]
        if "include" in found:
            file = file.parent / found["include"]
    raise ResultsError(f"task file '{file}' must hold a line 'task: NAME'; a group is the list of its tasks")
