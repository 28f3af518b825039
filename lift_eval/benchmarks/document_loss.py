"""How well a model predicts a document: low once it is trained on it, whether or not it can answer about it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import datasets

from lift_eval.benchmarks.data import withhold_text
from lift_eval.benchmarks.original_documents import NamedOriginal, OriginalsOptions, load_about


def load(*, prompts: Mapping[str, str], **metadata: object) -> dict[str, datasets.Dataset]:
    """Make the rows for lm-eval: each document of `lift_originals` once.

    Args:
        prompts: The task's prompt templates by name.
        **metadata: lm-eval's metadata and model arguments; see `OriginalsOptions`. ``max_questions`` changes nothing.
    """
    return load_about(_rows, prompts, metadata)


def _rows(originals: Sequence[NamedOriginal], _: OriginalsOptions) -> Iterator[dict[str, Any]]:
    for name, original in originals:
        yield {
            "doc_id": name,
            "id": "whole text",
            "title": original.title,
            "context": original.text,
            "question": "Whole text",
            "answer": "",
            "type": original.kind,
            "evidence": [],
            "depth": None,
        }


def score(row: dict[str, Any], results: Sequence[float]) -> dict[str, Any]:
    """Turn a text's log-likelihood (nats) into bits per byte; lm-eval's ``process_results``.

    A document that was given up has minus infinity, and no score.
    """
    size = len(row["context"].encode())
    withhold_text(row)
    bits = -results[0] / math.log(2) / size
    return {"documents": row["doc_id"], "bits_per_byte": bits if math.isfinite(bits) else None}
