"""Published figures, shown beside your own; see reports/published.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from lift_eval.errors import ResultsError, nearest, sentences_of
from lift_eval.reporting.experiment import Experiment, ExperimentPart, Published, read_mapping


class PublishedFigures(ExperimentPart):
    """One published row: its values in the order of the table's columns."""

    source: str
    model: str
    method: str
    values: tuple[float, ...]


class PublishedTable(ExperimentPart):
    """One published table.

    Attributes:
        metric: What its numbers are.
        columns: Their names.
        rows: Their values.
        cautions: What a reader must know of them.
    """

    metric: str
    columns: tuple[str, ...]
    rows: Annotated[tuple[PublishedFigures, ...], Field(min_length=1)]
    cautions: tuple[str, ...] = ()


class PublishedFile(ExperimentPart):
    """All published figures of a file: where they come from, and the tables."""

    sources: dict[str, str]
    tables: dict[str, PublishedTable]


@dataclass(frozen=True)
class PublishedRow:
    """A published method beside the measured ones.

    Attributes:
        name: Method and model.
        source: Where it was published.
        metric: What the numbers are.
        values: By column label of the experiment.
        cautions: What a reader must know of the table.
    """

    name: str
    source: str
    metric: str
    values: Mapping[str, float]
    cautions: tuple[str, ...]


def published_rows(experiment: Experiment) -> tuple[PublishedRow, ...]:
    """The published figures that an experiment asks for.

    Raises:
        ResultsError: If the file is not there or broken, or has no such table, column or model.
    """
    return tuple(row for asked in experiment.published for row in _rows(experiment, asked))


def _rows(experiment: Experiment, asked: Published) -> list[PublishedRow]:
    path = experiment.folder / asked.file
    data = read_published(path)
    if asked.table not in data.tables:
        raise ResultsError(f"{path}: no table '{asked.table}'{nearest(asked.table, data.tables)}")
    table = data.tables[asked.table]
    for column in asked.columns.values():
        if column not in table.columns:
            raise ResultsError(
                f"{path}: table '{asked.table}' has no column '{column}'{nearest(column, table.columns)}"
            )
    models = {row.model for row in table.rows}
    for model in asked.models:
        if model not in models:
            raise ResultsError(
                f"{path}: table '{asked.table}' has no model '{model}'{nearest(model, models)}"
            )
    return [
        PublishedRow(
            name=f"{row.method}, {row.model}",
            source=data.sources[row.source],
            metric=table.metric,
            values={
                label: value
                for label, column in asked.columns.items()
                for name, value in zip(table.columns, row.values, strict=True)
                if name == column
            },
            cautions=table.cautions,
        )
        for row in table.rows
        if not asked.models or row.model in asked.models
    ]


def read_published(path: Path) -> PublishedFile:
    """Read and check a file of published figures.

    Raises:
        ResultsError: If it is not there or broken.
    """
    try:
        data = PublishedFile.model_validate(read_mapping(path))
    except ValidationError as error:
        raise ResultsError(f"{path}: {'; '.join(sentences_of(error))}") from None
    for name, table in data.tables.items():
        for row in table.rows:
            if row.source not in data.sources:
                raise ResultsError(
                    f"{path}: table '{name}' cites '{row.source}'{nearest(row.source, data.sources)}"
                )
            if len(row.values) != len(table.columns):
                raise ResultsError(
                    f"{path}: table '{name}', '{row.method}' has {len(row.values)} values for {len(table.columns)} "
                    "columns"
                )
    return data
