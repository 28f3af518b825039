"""What an adapter costs elsewhere: questions that have nothing to do with its document, asked while it is in place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from pydantic import BaseModel, ConfigDict, TypeAdapter

from lift_eval.benchmarks.data import even_sample
from lift_eval.benchmarks.original_documents import NamedOriginal, OriginalsOptions, load_about

FILE = Path(__file__).with_suffix(".json")


class UnrelatedQuestion(BaseModel):
    """A question of general knowledge or simple reasoning.

    Attributes:
        kind: What it is about.
        question: What is asked.
        answers: Accepted answers, the fullest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    question: str
    answers: tuple[str, ...]


def read_questions() -> list[UnrelatedQuestion]:
    """The 200 questions, in the order of the file."""
    return TypeAdapter(list[UnrelatedQuestion]).validate_json(FILE.read_text(encoding="utf-8"))


def load(*, prompts: Mapping[str, str], **metadata: object) -> dict[str, datasets.Dataset]:
    """Make the rows for lm-eval: each question once, dealt out in turn to the documents of `lift_originals`.

    Args:
        prompts: The task's prompt templates by name, the default first; they hold nothing of the document.
        **metadata: lm-eval's metadata and model arguments; see `OriginalsOptions`.
    """
    return load_about(_rows, prompts, metadata)


def _rows(originals: Sequence[NamedOriginal], options: OriginalsOptions) -> Iterator[dict[str, Any]]:
    questions = read_questions()
    for number, (name, original) in enumerate(originals):
        dealt = range(number, len(questions), len(originals))
        for place in even_sample(len(dealt), options.max_questions):
            asked = questions[dealt[place]]
            yield {
                "doc_id": name,
                "id": f"unrelated {dealt[place]}",
                "title": original.title,
                "context": original.text,
                "question": asked.question,
                "answer": json.dumps(asked.answers, ensure_ascii=False),
                "type": asked.kind,
                "evidence": [],
                "depth": None,
            }
