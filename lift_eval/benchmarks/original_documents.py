"""Originals: documents written for this project, so no pretrained model has seen their facts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import datasets
from pydantic import BaseModel, ConfigDict, Field

from lift_eval.benchmarks.data import (
    Options,
    as_dataset,
    choose_prompt,
    even_sample,
    read_options,
    withhold_text,
)
from lift_eval.benchmarks.loogle import FEATURES, evidence_depth
from lift_eval.benchmarks.metrics.answers import best_scores

FOLDER = Path(__file__).parent / "originals"

Split = Literal["development", "report"]


class OriginalsOptions(Options):
    """What the metadata of a run may set.

    Attributes:
        split: ``report``, or ``development`` for choosing settings.
        documents: Most documents; None means all of the split.
        max_questions: Most questions about a document, an even sample; None means all.
    """

    split: Split = "report"
    documents: Annotated[int, Field(ge=1)] | None = None
    max_questions: Annotated[int, Field(ge=1)] | None = None


class WrittenQuestion(BaseModel):
    """A question about an original document.

    Attributes:
        question: What is asked.
        answers: Accepted answers, the fullest first.
        evidence: The sentences that prove it, verbatim: one, or two in different places.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    answers: Annotated[tuple[str, ...], Field(min_length=1)]
    evidence: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]


class Original(BaseModel):
    """A document with its questions, as a file in ``originals/`` holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    kind: str
    split: Split
    license: str
    text: str
    questions: tuple[WrittenQuestion, ...]


NamedOriginal: TypeAlias = tuple[str, Original]
"""An original behind its name."""


def read_originals(split: Split) -> Iterator[NamedOriginal]:
    """Yield the name and the content of each document of a split, sorted by name."""
    for path in sorted(FOLDER.glob("*.json")):
        original = Original.model_validate_json(path.read_text(encoding="utf-8"))
        if original.split == split:
            yield path.stem, original


def load(*, prompts: Mapping[str, str], **metadata: object) -> dict[str, datasets.Dataset]:
    """Make the rows for lm-eval.

    Args:
        prompts: The task's prompt templates by name, the default first.
        **metadata: lm-eval's metadata and model arguments; see `OriginalsOptions`.
    """
    return load_about(_questions, prompts, metadata)


def load_about(
    rows: Callable[[Sequence[NamedOriginal], OriginalsOptions], Iterable[dict[str, Any]]],
    prompts: Mapping[str, str],
    metadata: Mapping[str, object],
) -> dict[str, datasets.Dataset]:
    """Make the rows of a task about the documents that a run selects.

    Args:
        rows: Makes them, but for how they are asked and judged, from the documents and the options.
        prompts: As of `load`.
        metadata: As of `load`.
    """
    options = read_options(OriginalsOptions, metadata)
    style, template = choose_prompt(prompts, options.prompt_style, metadata)
    shared = {"prompt_style": style, "prompt_template": template, "judge": "", "judged_as": ""}
    originals = list(read_originals(options.split))[: options.documents]
    return as_dataset((row | shared for row in rows(originals, options)), FEATURES)


def _questions(originals: Sequence[NamedOriginal], options: OriginalsOptions) -> Iterator[dict[str, Any]]:
    for name, original in originals:
        for place in even_sample(len(original.questions), options.max_questions):
            asked = original.questions[place]
            yield {
                "doc_id": name,
                "id": str(place),
                "title": original.title,
                "context": original.text,
                "question": asked.question,
                "answer": json.dumps(asked.answers, ensure_ascii=False),
                "type": "one_place" if len(asked.evidence) == 1 else "two_places",
                "evidence": list(asked.evidence),
                "depth": evidence_depth(original.text, asked.evidence),
            }


def score(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score a reply against the best of the accepted answers; lm-eval's ``process_results``."""
    withhold_text(row)
    return {"documents": row["doc_id"], **best_scores(results[0], json.loads(row["answer"]))}
