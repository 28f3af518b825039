"""LooGLE v2 (arXiv 2510.22548): questions about reports of companies, law, code and games that need the whole text.

1,934 questions about texts of 16,000 to 2,000,000 tokens. Each row has a prompt of its own: ``instruction`` is a format
string of ``{context}``, ``{options}`` and ``{question}``. A reply's answer is what follows "The correct answer is".
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

import datasets

from lift_eval.benchmarks.data import (
    HUB_ERRORS,
    Line,
    Options,
    as_dataset,
    choose_prompt,
    first_line,
    read_jsonl,
    read_options,
    withhold_text,
)
from lift_eval.errors import DocumentError

REPOSITORY = "GraphPKU/LooGLE-v2"
SPLIT = "train"
SUBFOLDERS = ("loogle_v2", "LooGLE-v2")
TOLERANCE = 0.05
"""Of a computed number, as a share of the right one."""
TOLERANT = ("Metric Calculation", "Cross-Company Comparison")
"""Tasks whose answer is a number that may be off by `TOLERANCE`."""
SETS = "Version Control"
"""The task whose answer is a set of names of files."""

COLUMNS = ("id", "source", "task", "type", "instruction", "context", "question", "options", "answer")
FEATURES = datasets.Features(
    dict.fromkeys((*COLUMNS, "prompt_style", "prompt_template"), datasets.Value("string"))
)
"""Columns of a row; a set of names is JSON in ``answer``."""

_AFTER = r"[Tt]he correct answer is"
_NUMBER = r"\d{1,6}(?:,\d{3})*(?:\.\d+)?[M%]?"


def load(*, prompts: Mapping[str, str], source: str, **metadata: object) -> dict[str, datasets.Dataset]:
    """Read the questions of one source for lm-eval.

    Args:
        prompts: Names of the ways to ask, the default first, with what they put in the document's place.
        source: The rows' ``source``, case-insensitive; the official evaluation reports each separately.
        **metadata: lm-eval's metadata and model arguments; see `Options`.

    Raises:
        DocumentError: For a file or row that cannot be used.
        RecipeError: For an option that cannot be used.
    """
    options = read_options(Options, metadata)
    style, context = choose_prompt(prompts, options.prompt_style, metadata)
    lines = _lines_of_hub() if options.data_dir is None else _lines_of(options.data_dir)
    shared = {"prompt_style": style, "prompt_template": context}
    rows = [row | shared for row in read_rows(lines)]
    chosen = [row for row in rows if row["source"].lower() == source]
    if not chosen:
        there = ", ".join(sorted({row["source"] for row in rows})) or "none"
        raise DocumentError(
            f"LooGLE v2's rows must have some of source '{source}', got {there}; get the official files"
        )
    return as_dataset(chosen, FEATURES)


def _lines_of_hub() -> Iterator[Line]:
    try:
        rows = datasets.load_dataset(REPOSITORY, split=SPLIT)
    except HUB_ERRORS as error:
        raise DocumentError(
            f"cannot get the dataset {REPOSITORY} from the Hub ({first_line(error)}); read a local folder with "
            '--metadata \'{"data_dir": "..."}\''
        ) from error
    yield from (Line(f"{REPOSITORY}, row {number}", row) for number, row in enumerate(rows))


def _lines_of(folder: Path) -> Iterator[Line]:
    """The rows of all JSON lines in the benchmark's own folder, or else in the one that the user names."""
    if not folder.is_dir():
        raise DocumentError(
            f"data_dir '{folder}' is not a folder; name the folder that holds LooGLE v2's .jsonl files"
        )
    for place in (*(folder / name for name in SUBFOLDERS), folder):
        files = sorted(place.rglob("*.jsonl"))
        if files:
            for path in files:
                yield from read_jsonl(path)
            return
    raise DocumentError(
        f"data_dir '{folder}' holds no .jsonl file; put LooGLE v2's there, or in '{SUBFOLDERS[0]}'"
    )


def read_rows(lines: Iterable[Line]) -> Iterator[dict[str, Any]]:
    """Check the rows.

    Raises:
        DocumentError: For a row that breaks the form, and an id that stands twice.
    """
    seen: set[str] = set()
    documents: dict[str, str] = {}
    for line in lines:
        row = {
            name: line.text(name) for name in ("id", "source", "task", "instruction", "context", "question")
        }
        if row["id"] in seen:
            raise line.fault(f"id '{row['id']}' occurs twice; drop one of the rows")
        seen.add(row["id"])
        _check_instruction(line, row["instruction"])
        # One text is kept for all the questions about it.
        row["context"] = documents.setdefault(row["context"], row["context"])
        kind, options = line.fields.get("type"), line.fields.get("options") or ""
        yield row | {
            "type": kind if isinstance(kind, str) else "",
            "options": "\n".join(line.texts("options")) if isinstance(options, list) else str(options),
            "answer": _answer_text(line, is_set=row["task"] == SETS),
        }


def _check_instruction(line: Line, instruction: str) -> None:
    try:
        parts = [part[1:] for part in Formatter().parse(instruction) if part[1] is not None]
    except ValueError:
        parts = [("{", "", None)]
    known = [(name, "", None) for name in ("context", "options", "question")]
    if unknown := [str(part[0]) for part in parts if part not in known]:
        raise line.fault(
            f"'instruction' must be a format string of context, options and question, got '{{{unknown[0]}}}'; fix or "
            "drop the row"
        )


def _answer_text(line: Line, *, is_set: bool) -> str:
    """The answer as text; a set of names, which is a list or the text of one, as JSON."""
    if not is_set:
        return line.text("answer").strip()
    value = line.get("answer")
    try:
        names = ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise line.fault(f"'answer' must be a list of names, got {value!r:.40}; fix or drop the row")
    return json.dumps(names)


def prompt(row: Mapping[str, Any]) -> str:
    """Fill a row's own prompt; lm-eval's ``doc_to_text``."""
    context = str(row["prompt_template"]).format(context=row["context"])
    return str(row["instruction"]).format(context=context, options=row["options"], question=row["question"])


# ---------------------------------------------------------------------------------------------------------- scores


def score(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score a reply; lm-eval's ``process_results``.

    ``score`` is 0 to 1: 1 for the right letter, name, range or number, and the Jaccard index of sets of names. A reply
    without an answer, which ``readable`` tells, is wrong.
    """
    given = read_answer(row, results[0])
    value = 0.0 if given is None else _judge(row["task"], given, row["answer"])
    withhold_text(row)
    return {
        "documents": row["context"],
        "score": value,
        "jaccard" if row["task"] == SETS else "accuracy": value,
        "readable": float(given is not None),
    }


def read_answer(row: Mapping[str, Any], reply: str) -> str | None:
    """The answer of a reply; a set of names as JSON. None means that it gives none."""
    reply, task = reply.replace("*", ""), row["task"]
    if task == SETS:
        names = sorted(set(re.findall(r"[\w/]+\.py", reply)))
        return json.dumps(names) if names else None
    if row["source"] == "Finance":
        kind = r"\b\d{4}-\d{4}\b" if task == "Trend Analysis" else _NUMBER
        return _found(rf"{_AFTER}[:\s]+.*?({kind})", reply)
    kinds = {"Legal Case Retrieval": r"CASE_\d+", "Legal Article Extraction": r"LAW_\d+"}
    return _found(rf"{_AFTER}[:\s]*[(<]*({kinds.get(task, '[A-D]')})", reply)


def _found(pattern: str, reply: str) -> str | None:
    found = re.search(pattern, reply)
    return found[1] if found else None


def _judge(task: str, given: str, right: str) -> float:
    if task == SETS:
        ours, theirs = set(json.loads(given)), set(json.loads(right))
        return len(ours & theirs) / len(ours | theirs)
    mine, wanted = _number(given), _number(right)
    if task in TOLERANT and mine is not None and wanted is not None:
        return float(abs(mine - wanted) < TOLERANCE * abs(wanted))
    return float(given == right)


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "").replace("$", "").strip().rstrip("M%"))
    except ValueError:
        return None
