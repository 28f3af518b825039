"""The parts of results files that reports read, validated because anyone may have written the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, Field, ValidationError

from lift_eval.errors import ResultsError, sentences_of
from lift_eval.record.record import Count, DocumentRecord, Number, Recorded, RunTotals

DATE = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?"
RESULTS_NAME = re.compile(rf".+_({DATE})\.json")
SAMPLES_NAME = re.compile(rf"samples_(.+)_({DATE})\.jsonl(?:\.gz)?")

Group: TypeAlias = dict[str, Any]
Form = TypeVar("Form", bound="_Form")


class _Form(BaseModel):
    """Base of all parts: fields that are not read may have any value."""

    model_config = Recorded.model_config


class _Recipe(_Form):
    name: str | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    adapter: Group = {}
    prompt: Group = {}
    precision: Group = {}


class Lift(_Form):
    """What the model class ``lift`` writes into a results file."""

    recipe: _Recipe | None = None
    recipe_digest: str | None = None
    documents: list[DocumentRecord] = []
    totals: RunTotals = RunTotals()
    versions: Group = {}


class _Config(_Form):
    model_args: Group | str | None = None
    gen_kwargs: Group | Literal[""] | None = None
    random_seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    lift: Lift | None = None


class _Generation(_Form):
    temperature: Number | None = None


class _Task(_Form):
    metadata: Group | None = None
    generation_kwargs: _Generation | None = None


class _Questions(_Form):
    original: Count | None = None
    effective: Count | None = None


class _Scores(_Form):
    sample_len: Count | None = None


class Results(_Form):
    """A results file."""

    results: dict[str, _Scores]
    configs: dict[str, _Task]
    config: _Config
    versions: Group = {}
    higher_is_better: dict[str, dict[str, bool | None] | None] = {}
    n_shot: Annotated[dict[str, Count | None], Field(alias="n-shot")] = {}
    n_samples: Annotated[dict[str, _Questions], Field(alias="n-samples")] = {}
    date: Annotated[int | float, Field(ge=0, le=2**37)] | None = None


class _DocumentName(_Form):
    digest: str
    field: str


class SampleLine(_Form):
    """A line of a file of samples."""

    doc: Group
    filter: str = "none"
    metrics: list[str] = []
    filtered_resps: list[Any] = []
    document: _DocumentName | None = None


class _JudgedRow(_Form):
    question: str
    answer: str
    judged_as: Literal["answer", "summary"]
    type: str | None = None


class JudgedLine(_Form):
    """A line of a file of samples that a judge is asked about."""

    doc: _JudgedRow
    doc_id: int | str
    filtered_resps: Annotated[list[str], Field(min_length=1)]


def check_results(data: Mapping[str, Any]) -> Results:
    """Validate a results file.

    Args:
        data: The content of a results file.

    Returns:
        The parts that are read.

    Raises:
        ResultsError: With the first place that has another form.
    """
    return _check(data, Results, "not in the format of lm-eval 0.4's results")


def check_sample(data: object, where: str, form: type[SampleLine] | type[JudgedLine] = SampleLine) -> None:
    """Validate a sample.

    Args:
        data: The content of a line.
        where: File and line.
        form: The model of the parts that are read.

    Raises:
        ResultsError: With the first place that has another form.
    """
    _check(data, form, f"{where} is not a sample of lm-eval 0.4")


def _check(data: object, form: type[Form], what: str) -> Form:
    try:
        return form.model_validate(data)
    except ValidationError as error:
        raise ResultsError(f"{what}: {sentences_of(error)[0]}") from None


@contextmanager
def read_as_sample(where: str) -> Iterator[None]:
    """Turn errors caused by a malformed line into an error about that line.

    Args:
        where: File and line.

    Raises:
        ResultsError: If the code inside expects another form.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ResultsError(
            f"{where} is not in the format of lm-eval 0.4's samples ({type(error).__name__}: {error}); delete the "
            "run's files and run again"
        ) from error
