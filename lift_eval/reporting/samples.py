"""The samples of a comparison side by side, as the sample browser of the HTML report reads them."""

from __future__ import annotations

import json
from typing import Any

from lift_eval.reporting.comparison import Comparison
from lift_eval.results.samples import Sample

LONGEST_TEXT = 2_000
"""Longer answers and references are cut in the browser; the files hold them whole."""


def browser_data(comparison: Comparison) -> dict[str, Any]:
    """Every question once, with all methods' answers.

    Returns:
        ``methods`` and ``tasks`` (names), ``baseline`` (index of a method or None), and ``items``: lists of task index,
        title, type, question, reference, depth, evidence, answers by method (None where a method was not asked) and
        scores by method (0 to 1 where the score has that range).
    """
    metrics: dict[str, str] = {}
    for column in comparison.experiment.columns:
        for task in column.task:
            metrics.setdefault(task, column.metric)
    methods = [
        row.name
        for row in comparison.experiment.rows
        if any(name == row.name for name, _ in comparison.samples)
    ]
    tasks = [
        task for task in comparison.experiment.tasks if any(name == task for _, name in comparison.samples)
    ]
    items = []
    for task_index, task in enumerate(tasks):
        by_method = [
            {sample.key: sample for sample in comparison.samples.get((method, task), ())}
            for method in methods
        ]
        for key in dict.fromkeys(key for samples in by_method for key in samples):
            answers = [samples.get(key) for samples in by_method]
            items.append(_item(task_index, answers, metrics[task]))
    baseline = comparison.experiment.baseline
    return {
        "methods": methods,
        "tasks": tasks,
        "metrics": [metrics[task] for task in tasks],
        "baseline": methods.index(baseline) if baseline in methods else None,
        "items": items,
    }


def _item(task: int, answers: list[Sample | None], metric: str) -> list[Any]:
    first = next(sample for sample in answers if sample is not None)
    return [
        task,
        first.title,
        first.type,
        _cut(first.question),
        _cut(first.reference),
        None if first.depth is None else round(first.depth, 3),
        [_cut(piece) for piece in first.evidence if piece],
        [None if sample is None else _cut(sample.answer) for sample in answers],
        [None if sample is None else _value(sample, metric) for sample in answers],
    ]


def _value(sample: Sample, metric: str) -> float | None:
    if metric not in sample.scores:
        return None
    top, bottom = sample.scores[metric]
    return round(top / bottom, 4) if bottom else None


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"


def script_json(data: object) -> str:
    """JSON that can stand inside a script element: no character of it can end the element or begin a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
