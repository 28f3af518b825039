"""The samples of a comparison side by side, as the sample browser of the HTML report reads them."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from lift_eval.record.record import DocumentRecord
from lift_eval.reporting.comparison import Comparison
from lift_eval.results.samples import LoggedSample

LONGEST_TEXT = 2_000
"""Longer answers and references are cut in the browser; the files hold them whole."""
MOST_PAIRS = 50
"""Pairs of a document that the browser shows."""
KEY_CHARACTERS = 10
"""Of a sample's key, as links name it."""
QUESTION = "\ufffc"
"""Stands for the question in prompts, so that the prompts of one document are one text."""


class _Distinct:
    """Values that items name by number, equal ones once."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def number(self, value: Hashable) -> int | None:
        """A value's number. None means that it is empty."""
        return self._numbers.setdefault(value, len(self._numbers)) if value else None

    @property
    def values(self) -> list[Hashable]:
        """The values in the order of their numbers."""
        return list(self._numbers)


def browser_data(comparison: Comparison) -> dict[str, Any]:
    """Every question once, with all methods' answers.

    Returns:
        ``methods`` and ``tasks`` (names), ``metrics`` (names by task, the shown score first), ``baseline`` (number of a
        method or None), ``documents`` (see `_document`), ``pairs`` (lists of question and answer), ``prompts`` (texts,
        with `QUESTION` for the question), and ``items``: lists of task, document, key, type, question, reference,
        depth, evidence, and by method the answer, the values of the metrics (0 to 1 where a score has that range), and
        the number of the prompt. None means that a method lacks it.
    """
    names = {name for name, _ in comparison.samples}
    methods = [row.name for row in comparison.experiment.rows if row.name in names]
    tasks = [
        task for task in comparison.experiment.tasks if any(name == task for _, name in comparison.samples)
    ]
    metrics = [_metrics(comparison, task) for task in tasks]
    prompts, pairs, places = _Distinct(), _Distinct(), _Distinct()
    documents: list[LoggedSample] = []
    items = []
    for number, task in enumerate(tasks):
        by_method = [
            {sample.key: sample for sample in comparison.samples.get((method, task), ())}
            for method in methods
        ]
        for key in dict.fromkeys(key for samples in by_method for key in samples):
            answers = [samples.get(key) for samples in by_method]
            first = next(sample for sample in answers if sample is not None)
            place = places.number(first.document)
            if place == len(documents):
                documents.append(first)
            items.append([number, place, *_item(first, answers, metrics[number], prompts)])
    baseline = comparison.experiment.baseline
    records = {method: _records(comparison, method) for method in methods}
    return {
        "methods": methods,
        "tasks": tasks,
        "metrics": metrics,
        "baseline": methods.index(baseline) if baseline in methods else None,
        "documents": [
            _document(sample, [records[method].get(sample.document) for method in methods], pairs)
            for sample in documents
        ],
        "pairs": pairs.values,
        "prompts": prompts.values,
        "items": items,
    }


def _metrics(comparison: Comparison, task: str) -> list[str]:
    """The scores of a task's samples, that of its column first; counts and copies by type are none."""
    shown = [column.metric for column in comparison.experiment.columns if task in column.task]
    samples = [sample for (_, name), some in comparison.samples.items() if name == task for sample in some]
    types = {f"_{sample.type}" for sample in samples if sample.type}
    judged = {
        name
        for runs in comparison.runs.values()
        for run in runs
        if task in run.tasks
        for name, better in run.tasks[task].higher_is_better.items()
        if better is not None
    }
    found = dict.fromkeys(name for sample in samples for name in sample.scores if name in judged)
    return list(dict.fromkeys([*shown, *(name for name in found if not name.endswith(tuple(types) or "\0"))]))


def _item(
    first: LoggedSample, answers: Sequence[LoggedSample | None], metrics: Sequence[str], prompts: _Distinct
) -> list[Any]:
    question = _cut(first.question)
    return [
        first.key[:KEY_CHARACTERS],
        first.type,
        question,
        _cut(first.reference.strip()),
        None if first.depth is None else round(first.depth, 3),
        [_cut(piece) for piece in first.evidence if piece.strip()],
        [None if sample is None else _cut(sample.answer) for sample in answers],
        [None if sample is None else [_value(sample, metric) for metric in metrics] for sample in answers],
        [
            None if sample is None else prompts.number(sample.prompt.replace(question or QUESTION, QUESTION))
            for sample in answers
        ],
    ]


def _value(sample: LoggedSample, metric: str) -> float | None:
    if metric not in sample.scores:
        return None
    top, bottom = sample.scores[metric]
    return round(top / bottom, 4) if bottom else None


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"


def _records(comparison: Comparison, method: str) -> Mapping[str, DocumentRecord]:
    """What a method's runs recorded of their documents, by digest; of the first seed, as the samples."""
    runs = sorted(comparison.runs[method], key=lambda run: -run.seed)
    return {record.digest: record for run in runs for record in reversed(run.documents)}


def _document(
    sample: LoggedSample, records: Sequence[DocumentRecord | None], pairs: _Distinct
) -> dict[str, Any]:
    """A document's key, title, tokens (None if unknown), and each method's record of it.

    A record is its summary in words, the number of the first pairs made from the document, and how many there are.
    """
    lengths = [record.tokens for record in records if record is not None]
    return {
        "key": sample.document[:KEY_CHARACTERS],
        "title": sample.title or f"document {sample.document[:KEY_CHARACTERS]}",
        "tokens": max(lengths, default=sample.length),
        "records": [None if record is None else _record(record, pairs) for record in records],
    }


def _record(record: DocumentRecord, pairs: _Distinct) -> list[Any]:
    shown = tuple(tuple(map(_cut, pair)) for pair in record.made_pairs[:MOST_PAIRS])
    return [record.summary(), pairs.number(shown), len(record.made_pairs)]


def script_json(data: object) -> str:
    """JSON that is safe inside a script element: no character can end the element or begin a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
