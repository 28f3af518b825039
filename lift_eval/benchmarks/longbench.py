"""LongBench (arXiv 2308.14508): the official rows, prompts and scores of its English subtasks.

A row is ``input, context, answers, length, dataset, language, all_classes, _id``. The files stand in ``data.zip`` of
the Hub's dataset, which is read without unpacking; a local folder may hold that zip or the files themselves. Scores
are multiplied by 100, as published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
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
    read_zipped_jsonl,
    withhold_text,
)
from lift_eval.benchmarks.metrics.longbench import (
    classification_score,
    qa_f1,
    retrieval_score,
    rouge_l_best,
)

REPOSITORY = "THUDM/LongBench"
ARCHIVE = "data.zip"
SUBFOLDERS = ("longbench", "data", "LongBench", "longbench/data")
FEATURES = datasets.Features(
    {
        **dict.fromkeys(("_id", "dataset", "input", "context"), datasets.Value("string")),
        **dict.fromkeys(("answers", "all_classes"), datasets.List(datasets.Value("string"))),
        **dict.fromkeys(("prompt_style", "prompt_template"), datasets.Value("string")),
    }
)


def load(*, subtask: str, prompts: Mapping[str, str], **metadata: object) -> dict[str, datasets.Dataset]:
    """Read a subtask for lm-eval.

    Args:
        subtask: Its official name.
        prompts: The task's prompt templates by name, the default first.
        **metadata: lm-eval's metadata and model arguments; see `Options`.

    Raises:
        DocumentError: For a file or row that cannot be used.
        RecipeError: For an option that cannot be used.
    """
    options = read_options(Options, metadata)
    style, template = choose_prompt(prompts, options.prompt_style)
    shared = {"prompt_style": style, "prompt_template": template}
    lines = read_lines(subtask, options.data_dir)
    return as_dataset((row | shared for row in read_rows(lines, subtask)), FEATURES)


def read_lines(subtask: str, folder: Path | None) -> Iterator[Line]:
    """The lines of a subtask's file, from a folder or from the Hub."""
    name = f"{subtask}.jsonl"
    path = (
        hub_file(REPOSITORY, ARCHIVE)
        if folder is None
        else find_file(folder, "longbench", (name, ARCHIVE), SUBFOLDERS)
    )
    return read_zipped_jsonl(path, f"data/{name}") if path.name == ARCHIVE else read_jsonl(path)


def read_rows(lines: Iterable[Line], subtask: str) -> Iterator[dict[str, Any]]:
    """Check official rows.

    Raises:
        DocumentError: For a row that lacks a field or has one of another type, belongs to another subtask, or
            repeats an id.
    """
    seen: set[str] = set()
    for line in lines:
        row = {
            "_id": line.text("_id"),
            "dataset": line.text("dataset"),
            "input": line.text("input", may_be_empty=True),
            "context": line.text("context"),
            "answers": line.texts("answers"),
            "all_classes": [] if line.fields.get("all_classes") is None else line.texts("all_classes"),
        }
        if row["dataset"] != subtask:
            raise line.fault(
                f"the row belongs to '{row['dataset']}', not to '{subtask}'; use the official files"
            )
        if row["_id"] in seen:
            raise line.fault(f"_id '{row['_id']}' stands twice; drop one of the rows")
        seen.add(str(row["_id"]))
        yield row


def _scores(row: dict[str, Any], score: float) -> dict[str, Any]:
    withhold_text(row)
    return {"score": 100 * score, "documents": row["context"]}


def score_qa(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Token F1 x 100, the best over the answers; lm-eval's ``process_results``."""
    return _scores(row, qa_f1(results[0], row["answers"]))


def score_summary(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """ROUGE-L F1 x 100, the best over the references."""
    return _scores(row, rouge_l_best(results[0], row["answers"]))


def score_retrieval(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Share of the output's numbers that are the right paragraph's, x 100."""
    return _scores(row, retrieval_score(results[0], row["answers"]))


def score_classification(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """LongBench's classification score of the output's first line, x 100."""
    first_line = results[0].lstrip("\n").split("\n")[0]
    return _scores(row, classification_score(first_line, row["answers"], row["all_classes"]))
