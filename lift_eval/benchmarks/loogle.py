"""LooGLE (arXiv 2311.04939): short- and long-dependency questions, clozes and summaries of long documents.

Two forms of the data are read. New: one row per question (``doc_id, id, title, context, question, answer``, sometimes
``evidence`` and a type). Old: one row per document (``input, title, qa_pairs, output``), with ``qa_pairs`` a list of
``{Q, A, S, type}``, as JSON or as a Python literal. Both give lm-eval one row per question.
"""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import datasets

from lift_eval.benchmarks.data import (
    Line,
    Options,
    as_dataset,
    choose_prompt,
    find_file,
    hub_file,
    read_jsonl,
    read_options,
    type_name,
    withhold_text,
)
from lift_eval.benchmarks.metrics import choice, cloze, overlap, squad, timeline
from lift_eval.judging import judge
from lift_eval.results.full_sizes import LOOGLE_TYPES

REPOSITORY = "bigai-nlco/LooGLE"
REVISION = "4b50b4cb9333b48b3f7ddfd307c1d13369be5d1e"
FILES: Mapping[str, tuple[str, ...]] = {
    "shortdep_qa": ("shortdep_qa.jsonl",),
    "longdep_qa": ("longdep_qa.jsonl",),
    "shortdep_cloze": ("shortdep_cloze.jsonl",),
    "summarization": ("summarization.jsonl", "longdep_summarization.jsonl"),
}
"""File names by subset, the one on the Hub first; the others are of the old form."""

JUDGED_AS: Mapping[str, str] = {
    "shortdep_qa": "answer",
    "longdep_qa": "answer",
    "shortdep_cloze": "",
    "summarization": "summary",
}
"""What a judge takes the answers of a subset for; clozes need none."""

SUBFOLDERS = ("loogle", "data", "loogle/data", "LooGLE")
TYPE_COLUMNS = ("type", "task", "category")
FEATURES = datasets.Features(
    {
        **dict.fromkeys(("doc_id", "id", "title", "context", "question", "answer"), datasets.Value("string")),
        "evidence": datasets.List(datasets.Value("string")),
        "type": datasets.Value("string"),
        "depth": datasets.Value("float64"),
        **dict.fromkeys(("prompt_style", "prompt_template", "judge", "judged_as"), datasets.Value("string")),
    }
)
"""Columns of a row.

``depth`` is where the first evidence that can be found begins, from 0 (start of the document) to 1, or null.
"""

logger = logging.getLogger(__name__)


def load(*, subset: str, prompts: Mapping[str, str], **metadata: object) -> dict[str, datasets.Dataset]:
    """Read a subset for lm-eval.

    Args:
        subset: A key of `FILES`.
        prompts: The task's prompt templates by name, the default first.
        **metadata: lm-eval's metadata and model arguments; see `Options`.

    Raises:
        DocumentError: For a file or row that cannot be used.
        RecipeError: For an option that cannot be used.
    """
    options = read_options(Options, metadata)
    style, template = choose_prompt(prompts, options.prompt_style, metadata)
    if options.data_dir is None:
        path = hub_file(REPOSITORY, f"data/{FILES[subset][0]}", REVISION)
    else:
        path = find_file(options.data_dir, "loogle", FILES[subset], SUBFOLDERS)
    shared = {"prompt_style": style, "prompt_template": template, "judge": options.judge or ""}
    shared["judged_as"] = JUDGED_AS[subset]
    rows = [row | shared for row in read_rows(read_jsonl(path), subset)]
    if subset == "longdep_qa" and not any(row["type"] for row in rows):
        logger.warning(
            "%s: no row has a question type (%s): no scores by type", path, ", ".join(TYPE_COLUMNS)
        )
    return as_dataset(rows, FEATURES)


# ------------------------------------------------------------------------------------------------------------ rows


def read_rows(lines: Iterable[Line], subset: str) -> Iterator[dict[str, Any]]:
    """Turn lines of either form into one row per question.

    Raises:
        DocumentError: For a row that breaks the form, a question that stands twice under one id, and two documents
            under one id.
    """
    documents: dict[str, str] = {}
    questions: set[tuple[str, str, str]] = set()
    for number, line in enumerate(lines):
        rows = _old_form(line, subset, number) if "input" in line.fields else [_new_form(line, subset)]
        for row in rows:
            key = (row["doc_id"], row["id"], row["question"])
            if key in questions:
                raise line.fault(f"id '{row['id']}' asks the same question twice; drop one of the rows")
            document = documents.setdefault(row["doc_id"], row["context"])
            if document != row["context"]:
                raise line.fault(f"doc_id '{row['doc_id']}' identifies two documents; give each its own")
            questions.add(key)
            yield row | {"context": document}  # the same string for all questions of a document


def _new_form(line: Line, subset: str) -> dict[str, Any]:
    types = [line.fields[name] for name in TYPE_COLUMNS if isinstance(line.fields.get(name), str)]
    known = [name for name in map(_type_name, types) if name in LOOGLE_TYPES]
    is_summary = subset == "summarization"
    return {
        "doc_id": line.text("doc_id"),
        "id": line.text("id"),
        "title": line.text("title"),
        "context": (context := line.text("context")),
        "question": "" if is_summary else line.text("question"),
        "answer": _answer(line, line.get("answer"), subset),
        "type": known[0] if known else _type_name(line.fields.get("type") or ""),
        **_evidence(line, line.fields.get("evidence"), context),
    }


def _old_form(line: Line, subset: str, number: int) -> list[dict[str, Any]]:
    document = {
        "doc_id": str(number),
        "title": line.text("title"),
        "context": line.text("input"),
    }
    if subset == "summarization":
        answer = _answer(line, line.get("output"), subset)
        return [
            {
                **document,
                "id": "0",
                "question": "",
                "answer": answer,
                "type": "",
                "evidence": [],
                "depth": None,
            }
        ]
    return [
        {
            **document,
            "id": str(index),
            "question": pair.text("Q"),
            "answer": _answer(pair, pair.get("A"), subset),
            "type": _type_name(pair.fields.get("type") or ""),
            **_evidence(pair, pair.fields.get("S"), document["context"]),
            **_read_depth(pair),
        }
        for index, pair in enumerate(_qa_pairs(line))
    ]


def _qa_pairs(line: Line) -> list[Line]:
    value = line.get("qa_pairs")
    if isinstance(value, str):
        value = _parse_literal(value)
        if value is None:
            raise line.fault("'qa_pairs' is neither JSON nor a Python literal; fix or drop the row")
    if not isinstance(value, list) or not value:
        raise line.fault(
            f"'qa_pairs' must be a list of questions, got {type_name(value)}; fix or drop the row"
        )
    pairs = []
    for index, pair in enumerate(value):
        if not isinstance(pair, dict):
            raise line.fault(
                f"'qa_pairs' [{index}] must be an object, got {type_name(pair)}; fix or drop the row"
            )
        pairs.append(Line(f"{line.where}, qa_pairs [{index}]", pair))
    return pairs


def _parse_literal(text: str) -> object | None:
    """A value written as JSON or as a Python literal, or None if it is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            value: object = parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        return value
    return None


def _answer(line: Line, value: object, subset: str) -> str:
    """The reference as text; that of a cloze as a JSON object from masks to names."""
    if subset == "shortdep_cloze":
        mapping = _parse_literal(value) if isinstance(value, str) else value
        if (
            not isinstance(mapping, dict)
            or not mapping
            or not all(isinstance(v, str) for v in mapping.values())
        ):
            raise line.fault(
                f"the answer of a cloze must map masks to names, got {type_name(value)}; fix or drop the row"
            )
        return json.dumps({str(mask): name for mask, name in mapping.items()}, ensure_ascii=False)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise line.fault(f"the answer must be text, got {type_name(value)}; fix or drop the row")
    return value


def _type_name(value: object) -> str:
    """A question type in the spelling of `LOOGLE_TYPES`: lower case, words joined by underscores."""
    return re.sub(r"[\s_-]+", "_", str(value).strip().lower().replace("&", "and"))


def _evidence(line: Line, value: object, context: str) -> dict[str, Any]:
    """The evidence as a list, and the depth of the first piece found in the document."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _parse_literal(value) or value
    pieces = [value] if isinstance(value, str) else value or []
    if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
        raise line.fault(f"the evidence must be text or a list of texts, got {type_name(value)}; fix the row")
    return {"evidence": pieces, "depth": evidence_depth(context, pieces)}


def _read_depth(pair: Line) -> dict[str, float]:
    depth = pair.fields.get("depth")
    return {"depth": float(depth)} if isinstance(depth, (int, float)) and not isinstance(depth, bool) else {}


def evidence_depth(context: str, evidence: Sequence[str]) -> float | None:
    """Where the first piece of evidence found in the document begins, as a share of its length.

    White space may differ; everything else must agree.

    Returns:
        0 to 1, or None where no piece is found.
    """
    for piece in evidence:
        words = piece.split()
        start = context.find(piece) if words else -1
        if words and start < 0 and (match := re.search(r"\s+".join(map(re.escape, words)), context)):
            start = match.start()
        if start >= 0:
            return start / len(context)
    return None


# ---------------------------------------------------------------------------------------------------------- scores


def short_scores(prediction: str, reference: str) -> dict[str, float]:
    """The scores of an answer of a few words; see `lift_eval.benchmarks.metrics` for each."""
    scores = text_scores(prediction, reference)
    return {name: scores[name] for name in ("exact_match", "token_f1", "rouge_l")}


def text_scores(prediction: str, reference: str) -> dict[str, float]:
    """The scores of a free answer that need no judge; see `lift_eval.benchmarks.metrics` for each."""
    _, rouge_l_recall, rouge_l = overlap.rouge_l(prediction, reference)
    return {
        "exact_match": squad.exact_match(prediction, reference),
        "token_f1": squad.token_f1(prediction, reference),
        "rouge_l": rouge_l,
        "rouge_1_recall": overlap.rouge_n_recall(prediction, reference, 1),
        "rouge_2_recall": overlap.rouge_n_recall(prediction, reference, 2),
        "rouge_l_recall": rouge_l_recall,
        "bleu_1": overlap.bleu_1(prediction, reference),
        "bleu_4": overlap.bleu_4(prediction, reference),
        "bleu_4gram_published": overlap.bleu_4gram_published(prediction, reference),
        "meteor_exact_stem": overlap.meteor_exact_stem(prediction, reference),
    }


def by_type(scores: Mapping[str, Any], names: Iterable[str], question_type: str) -> dict[str, Any]:
    """Some scores again under the name of the question's type, and the question counted under its type."""
    counts = {f"questions_{name}": float(name == question_type) for name in LOOGLE_TYPES}
    if question_type not in LOOGLE_TYPES:
        return counts
    return counts | {f"{name}_{question_type}": scores[name] for name in names}


def score_answer(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score a ShortQA answer or a summary; lm-eval's ``process_results``."""
    withhold_text(row)
    judged = judge.items(row, results[0])
    return {"documents": row["doc_id"], **text_scores(results[0], row["answer"]), **judged}


def score_short_answer(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score an answer of a few words."""
    withhold_text(row)
    judged = judge.items(row, results[0])
    return {"documents": row["doc_id"], **short_scores(results[0], row["answer"]), **judged}


def score_typed_short_answer(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score an answer of a few words, also by its type."""
    scores = score_short_answer(row, results)
    return scores | by_type(scores, ("exact_match", "token_f1", "rouge_l"), row["type"])


def score_typed_answer(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score a LongQA answer: also by its type, as a choice or as an order where the question asks for one."""
    prediction, reference = results[0], row["answer"]
    scores = score_answer(row, results)
    scores |= by_type(scores, ("token_f1", "rouge_l"), row["type"])
    if row["type"] == "timeline_reorder":
        return scores | _timeline_scores(prediction, reference)
    accuracy = choice.choice_accuracy(prediction, reference, choice.read_options(row["question"]))
    return scores if accuracy is None else scores | {"choice_accuracy": accuracy}


def _timeline_scores(prediction: str, reference: str) -> dict[str, float]:
    right = timeline.reference_order(reference)
    if right is None:
        return {}
    order = timeline.read_order(prediction, right)
    return {
        "timeline_readable": float(order is not None),
        "timeline_exact": float(order == right),
        **{f"timeline_{name}": v for name, v in timeline.timeline_deviations(order, right).items()},
    }


def score_cloze(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score a cloze: pairs (matches, masks), to be averaged over all masks of the run."""
    reference: dict[str, str] = json.loads(row["answer"])
    exact, partial = cloze.cloze_matches(results[0], reference)
    withhold_text(row)
    return {
        "documents": row["doc_id"],
        "cloze_exact": (exact, len(reference)),
        "cloze_partial": (partial, len(reference)),
        "cloze_readable": float(cloze.read_mapping(results[0]) is not None),
    }
