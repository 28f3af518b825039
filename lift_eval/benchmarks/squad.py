"""SQuAD (arXiv 1606.05250) with whole articles as documents: their paragraphs joined, all answerable questions.

The articles come from the table of the Hub's dataset, grouped by title, or from files in SQuAD's own JSON form: 1.1, or
2.0 without its unanswerable questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import datasets
import pandas as pd
from pydantic import Field

from lift_eval.benchmarks.data import (
    MANIFEST,
    Line,
    Options,
    as_dataset,
    choose_prompt,
    even_sample,
    find_file,
    first_line,
    hub_file,
    read_json,
    read_options,
    withhold_text,
)
from lift_eval.benchmarks.metrics.squad import exact_match, qa_f1
from lift_eval.errors import DocumentError

REPOSITORY = "rajpurkar/squad"
REVISION = "7b6d24c440a36b6815f21b70d25016731768db1f"
TABLE = "plain_text/validation-00000-of-00001.parquet"
SUBFOLDER = "squad"
BETWEEN_PARAGRAPHS = "\n\n"
FEATURES = datasets.Features(
    {
        **dict.fromkeys(("id", "title", "context", "question"), datasets.Value("string")),
        "answers": datasets.List(datasets.Value("string")),
        "depth": datasets.Value("float64"),
        **dict.fromkeys(("prompt_style", "prompt_template"), datasets.Value("string")),
    }
)
"""Columns of a row; ``depth`` is where the first answer begins in the article, from 0 to 1."""


class SquadOptions(Options):
    """What the metadata of a run may set.

    Attributes:
        max_questions: Most questions about an article, an even sample of them in their order; None means all.
    """

    max_questions: Annotated[int, Field(ge=1)] | None = None


def load(*, prompts: Mapping[str, str], **metadata: object) -> dict[str, datasets.Dataset]:
    """Read the articles for lm-eval.

    Args:
        prompts: The task's prompt templates by name, the default first.
        **metadata: lm-eval's metadata and model arguments; see `SquadOptions`.

    Raises:
        DocumentError: For a file or article that cannot be used.
        RecipeError: For an option that cannot be used.
    """
    options = read_options(SquadOptions, metadata)
    style, template = choose_prompt(prompts, options.prompt_style, metadata)
    shared = {"prompt_style": style, "prompt_template": template}
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for article in read_articles(options.data_dir):
        questions = list(read_questions(article, seen))
        rows += [questions[place] | shared for place in even_sample(len(questions), options.max_questions)]
    if not rows:
        raise DocumentError("SQuAD's files have no answerable question; get the official ones")
    return as_dataset(rows, FEATURES)


# -------------------------------------------------------------------------------------------------------- articles


def read_articles(folder: Path | None) -> Iterator[Line]:
    """The articles in SQuAD's JSON form, from a folder or from the Hub.

    Args:
        folder: Its JSON files are read, or those of its subfolder ``squad``, or else the Hub's table in either.

    Raises:
        DocumentError: If there is no such file, or one in another format.
    """
    files = [] if folder is None else _json_files(folder)
    for path in files:
        content = read_json(path)
        if not isinstance(content, dict):
            raise DocumentError(
                f"{path}: must be an object with 'data', as SQuAD's files are; remove it from the folder"
            )
        yield from Line(str(path), content).objects("data")
    if files:
        return
    if folder is None:
        table = hub_file(REPOSITORY, TABLE, REVISION)
    else:
        table = find_file(folder, "squad", ("dev-v1.1.json", TABLE), (SUBFOLDER,))
    yield from _articles_of_table(table)


def _json_files(folder: Path) -> list[Path]:
    for place in (folder / SUBFOLDER, folder):
        found = sorted(path for path in place.glob("*.json") if path.name != MANIFEST)
        if found:
            return found
    return []


def _articles_of_table(path: Path) -> Iterator[Line]:
    """The table's rows, one a question, as articles; paragraphs and questions keep their order."""
    try:
        rows = pd.read_parquet(path, columns=["id", "title", "context", "question", "answers"])
    except (OSError, ValueError) as error:
        raise DocumentError(
            f"{path} is not SQuAD's table ({first_line(error)}); download it again"
        ) from error
    for title, article in rows.groupby("title", sort=False):
        paragraphs = [
            {"context": context, "qas": list(map(_question, asked.id, asked.question, asked.answers))}
            for context, asked in article.groupby("context", sort=False)
        ]
        yield Line(f"{path}, article '{title}'", {"title": title, "paragraphs": paragraphs})


def _question(name: str, question: str, answers: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """A question in SQuAD's JSON form."""
    found = zip(answers["text"], map(int, answers["answer_start"]), strict=True)
    pairs = [{"text": text, "answer_start": start} for text, start in found]
    return {"id": name, "question": question, "answers": pairs}


def read_questions(article: Line, seen: set[str]) -> Iterator[dict[str, Any]]:
    """The answerable questions of an article, each with the whole of it.

    Args:
        article: Title and paragraphs in SQuAD's JSON form.
        seen: Ids of the questions read before; those of this article are added.

    Raises:
        DocumentError: For an article that breaks the form, and an id that stands twice.
    """
    paragraphs = article.objects("paragraphs")
    contexts = [paragraph.text("context") for paragraph in paragraphs]
    text = BETWEEN_PARAGRAPHS.join(contexts)
    title = article.text("title").replace("_", " ")
    offset = 0
    for paragraph, context in zip(paragraphs, contexts, strict=True):
        for asked in paragraph.objects("qas"):
            answers = [answer.text("text") for answer in asked.objects("answers")]
            if not answers or asked.fields.get("is_impossible"):
                continue
            name = asked.text("id")
            if name in seen:
                raise asked.fault(f"id '{name}' occurs twice; drop one of the questions or files")
            seen.add(name)
            start = asked.objects("answers")[0].fields.get("answer_start")
            start = start if isinstance(start, int) else max(context.find(answers[0]), 0)
            yield {
                "id": name,
                "title": title,
                "context": text,
                "question": asked.text("question"),
                "answers": list(dict.fromkeys(answers)),
                "depth": (offset + start) / len(text),
            }
        offset += len(context) + len(BETWEEN_PARAGRAPHS)


# ---------------------------------------------------------------------------------------------------------- scores


def score(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Exact match and F1 over the best of the accepted answers; lm-eval's ``process_results``."""
    withhold_text(row)
    return {
        "documents": row["context"],
        "exact_match": max(exact_match(results[0], answer) for answer in row["answers"]),
        "token_f1": max(qa_f1(results[0], answer) for answer in row["answers"]),
    }
