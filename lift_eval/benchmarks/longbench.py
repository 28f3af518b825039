"""LongBench (arXiv 2308.14508): the official rows, prompts and scores of its 21 subtasks.

A row is ``input, context, answers, length, dataset, language, all_classes, _id``. The files stand in ``data.zip`` of
the Hub's dataset, which is read without unpacking; a local folder may hold that zip or the files themselves. Scores
are multiplied by 100, as published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    type_name,
    withhold_text,
)
from lift_eval.benchmarks.metrics import chinese
from lift_eval.benchmarks.metrics.longbench import (
    PARAGRAPH,
    classification_score,
    code_similarity,
    count_score,
    retrieval_score,
    rouge_l_f1,
)
from lift_eval.benchmarks.metrics.squad import qa_f1

REPOSITORY = "THUDM/LongBench"
REVISION = "5e628be450b7e67fb7ae6e201bd6d8f7056f7672"
ARCHIVE = "data.zip"
SUBFOLDERS = ("longbench", "data", "LongBench", "longbench/data")
FEATURES = datasets.Features(
    {
        **dict.fromkeys(("_id", "dataset", "input", "context", "type"), datasets.Value("string")),
        **dict.fromkeys(("answers", "all_classes"), datasets.List(datasets.Value("string"))),
        **dict.fromkeys(("prompt_style", "prompt_template"), datasets.Value("string")),
    }
)
"""Columns of a row; ``type`` is its length group, empty where the length is not known or counted in characters."""

LIFT_STYLE, OFFICIAL_STYLE = "lift_v1", "longbench"
"""Names of the prompt styles that hold the document: cut as the recipe says, and as the official code does."""

FEW_SHOT, CODE = "few_shot_learning", "code_completion"
LENGTH_GROUPS = ("0-4k", "4-8k", "8k+")
"""LongBench-E's groups by the words of a row: under 4,000, under 8,000, and more."""


@dataclass(frozen=True)
class Subtask:
    """How a subtask is scored.

    Attributes:
        category: LongBench's name of its kind; the official average weighs all kinds alike.
        metric: Score of a reply against one right answer, 0 to 1; `classification_score` takes the class names too.
        chinese: Whether its lengths are counted in characters, which have no length groups.
    """

    category: str
    metric: Callable[..., float]
    chinese: bool = False

    @property
    def takes_chat_template(self) -> bool:
        """Whether the official code puts its prompts through the chat template."""
        return self.category not in (FEW_SHOT, CODE)


SUBTASKS: Mapping[str, Subtask] = {
    "narrativeqa": Subtask("single_document_qa", qa_f1),
    "qasper": Subtask("single_document_qa", qa_f1),
    "multifieldqa_en": Subtask("single_document_qa", qa_f1),
    "multifieldqa_zh": Subtask("single_document_qa", chinese.qa_f1_zh, chinese=True),
    "hotpotqa": Subtask("multi_document_qa", qa_f1),
    "2wikimqa": Subtask("multi_document_qa", qa_f1),
    "musique": Subtask("multi_document_qa", qa_f1),
    "dureader": Subtask("multi_document_qa", chinese.rouge_l_zh, chinese=True),
    "gov_report": Subtask("summarization", rouge_l_f1),
    "qmsum": Subtask("summarization", rouge_l_f1),
    "multi_news": Subtask("summarization", rouge_l_f1),
    "vcsum": Subtask("summarization", chinese.rouge_l_zh, chinese=True),
    "trec": Subtask(FEW_SHOT, classification_score),
    "triviaqa": Subtask(FEW_SHOT, qa_f1),
    "samsum": Subtask(FEW_SHOT, rouge_l_f1),
    "lsht": Subtask(FEW_SHOT, classification_score, chinese=True),
    "passage_count": Subtask("synthetic_tasks", count_score),
    "passage_retrieval_en": Subtask("synthetic_tasks", retrieval_score),
    "passage_retrieval_zh": Subtask("synthetic_tasks", retrieval_score, chinese=True),
    "lcc": Subtask(CODE, code_similarity),
    "repobench-p": Subtask(CODE, code_similarity),
}

_SIZES = Counter(subtask.category for subtask in SUBTASKS.values())
WEIGHTS: Mapping[str, float] = {
    name: len(SUBTASKS) / (len(_SIZES) * _SIZES[subtask.category]) for name, subtask in SUBTASKS.items()
}
"""Factor on a subtask's score that makes the mean over all subtasks the official average: the mean over the
six categories of the means over their subtasks."""


def load(*, subtask: str, prompts: Mapping[str, str], **metadata: object) -> dict[str, datasets.Dataset]:
    """Read a subtask for lm-eval.

    Args:
        subtask: Its official name.
        prompts: The task's prompt templates by name; the official one serves `LIFT_STYLE`, the default, too.
        **metadata: lm-eval's metadata and model arguments; see `Options`.

    Raises:
        DocumentError: For a file or row that cannot be used.
        RecipeError: For an option that cannot be used.
        LiftEvalError: If the subtask is scored by Chinese words and jieba is not installed.
    """
    if SUBTASKS[subtask].metric in (chinese.qa_f1_zh, chinese.rouge_l_zh):
        chinese.segmenter()  # before the run, if it is missing
    options = read_options(Options, metadata)
    styles = {LIFT_STYLE: prompts[OFFICIAL_STYLE], **prompts}
    style, template = choose_prompt(styles, options.prompt_style, metadata)
    shared = {"prompt_style": style, "prompt_template": template}
    lines = read_lines(subtask, options.data_dir)
    return as_dataset((row | shared for row in read_rows(lines, subtask)), FEATURES)


def read_lines(subtask: str, folder: Path | None) -> Iterator[Line]:
    """The lines of a subtask's file, from a folder or from the Hub."""
    name = f"{subtask}.jsonl"
    path = (
        hub_file(REPOSITORY, ARCHIVE, REVISION)
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
            "type": _length_group(line, subtask),
        }
        if row["dataset"] != subtask:
            raise line.fault(
                f"the row belongs to '{row['dataset']}', not to '{subtask}'; use the official files"
            )
        if row["_id"] in seen:
            raise line.fault(f"_id '{row['_id']}' occurs twice; drop one of the rows")
        seen.add(str(row["_id"]))
        named = all(map(PARAGRAPH.search, row["answers"]))
        if SUBTASKS[subtask].metric is retrieval_score and not named:
            raise line.fault(
                f"'answers' must be like 'Paragraph 7', got {row['answers']}; fix or drop the row"
            )
        yield row


def _length_group(line: Line, subtask: str) -> str:
    words = line.fields.get("length")
    if words is None or SUBTASKS[subtask].chinese:
        return ""
    if not isinstance(words, int):
        raise line.fault(f"'length' must be a number of words, got {type_name(words)}; fix or drop the row")
    return LENGTH_GROUPS[(words >= 4000) + (words >= 8000)]


def score(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """The subtask's score x 100, the best over the answers; lm-eval's ``process_results``.

    ``overall`` is the score times the subtask's weight in the official average, so that the mean of ``overall`` over
    the 21 subtasks is that average.
    """
    subtask = SUBTASKS[row["dataset"]]
    reply = results[0].lstrip("\n").split("\n")[0] if subtask.category == FEW_SHOT else results[0]
    classes = (row["all_classes"],) if subtask.metric is classification_score else ()
    best = 100 * max(subtask.metric(reply, answer, *classes) for answer in row["answers"])
    withhold_text(row)
    scores = {"score": best, "overall": best * WEIGHTS[row["dataset"]], "documents": row["context"]}
    if row["type"]:
        scores |= {f"questions_{group}": float(group == row["type"]) for group in LENGTH_GROUPS}
        scores[f"score_{row['type']}"] = best
    return scores
