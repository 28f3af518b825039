"""How well a model predicts a document: low once it is trained on it, whether or not it can answer about it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import datasets

from lift_eval.benchmarks.data import as_dataset, choose_prompt, read_options, withhold_text
from lift_eval.benchmarks.loogle import FEATURES
from lift_eval.benchmarks.original_documents import OriginalsOptions, read_originals


def load(*, prompts: Mapping[str, str], **metadata: object) -> dict[str, datasets.Dataset]:
    """Make the rows for lm-eval: each document of `lift_originals` once.

    Args:
        prompts: The task's prompt templates by name.
        **metadata: lm-eval's metadata and model arguments; see `OriginalsOptions`. ``max_questions`` changes nothing.
    """
    options = read_options(OriginalsOptions, metadata)
    style, template = choose_prompt(prompts, options.prompt_style, metadata)
    rows: Iterator[dict[str, Any]] = (
        {
            "doc_id": name,
            "id": "whole text",
            "title": original.title,
            "context": original.text,
            "question": "Whole text",
            "answer": "",
            "type": original.kind,
            "evidence": [],
            "depth": None,
            "prompt_style": style,
            "prompt_template": template,
            "judge": "",
            "judged_as": "",
        }
        for name, original in list(read_originals(options.split))[: options.documents]
    )
    return as_dataset(rows, FEATURES)


def score(row: dict[str, Any], results: Sequence[float]) -> dict[str, Any]:
    """Turn a text's log-likelihood (nats) into bits per byte; lm-eval's ``process_results``.

    A document that was given up has minus infinity, and no score.
    """
    size = len(row["context"].encode())
    withhold_text(row)
    bits = -results[0] / math.log(2) / size
    return {"documents": row["doc_id"], "bits_per_byte": bits if math.isfinite(bits) else None}
