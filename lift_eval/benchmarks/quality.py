"""QuALITY (arXiv 2112.08608): four choices for each question about a story or an article of 5,000 words.

The files are those of the benchmark's repository, JSON lines: one row for an article and one writer's questions about
it. Two tasks ask: one has the model write the letter of its choice, the other compares how likely the four texts are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import datasets

from lift_eval.benchmarks.data import (
    Line,
    Options,
    as_dataset,
    choose_prompt,
    find_file,
    read_jsonl,
    read_options,
    withhold_text,
)
from lift_eval.benchmarks.metrics.choice import read_choice
from lift_eval.errors import DocumentError

FILES = ("QuALITY.v1.0.1.htmlstripped.dev", "QuALITY.v1.0.1.dev", "quality.jsonl")
"""Names of the development set's file, whose answers are public."""
SUBFOLDERS = ("quality", "QuALITY")
LETTERS = "ABCD"

FEATURES = datasets.Features(
    {
        **dict.fromkeys(
            ("doc_id", "id", "title", "context", "question", "options"), datasets.Value("string")
        ),
        "choices": datasets.List(datasets.Value("string")),
        "gold": datasets.Value("int64"),
        "difficult": datasets.Value("bool"),
        **dict.fromkeys(("prompt_style", "prompt_template"), datasets.Value("string")),
    }
)
"""Columns of a row; ``gold`` is the place of the right choice, ``difficult`` whether hurried readers were wrong."""


def load(*, prompts: Mapping[str, str], **metadata: object) -> dict[str, datasets.Dataset]:
    """Read the questions for lm-eval.

    Args:
        prompts: The task's prompt templates by name, the default first.
        **metadata: lm-eval's metadata and model arguments; see `Options`.

    Raises:
        DocumentError: Without a folder, and for a file or row that cannot be used.
        RecipeError: For an option that cannot be used.
    """
    options = read_options(Options, metadata)
    style, template = choose_prompt(prompts, options.prompt_style, metadata)
    if options.data_dir is None:
        raise DocumentError(
            f"QuALITY is read from a folder that holds {FILES[0]}, got none; name it with --metadata "
            '\'{"data_dir": "..."}\''
        )
    path = find_file(options.data_dir, "quality", FILES, SUBFOLDERS)
    shared = {"prompt_style": style, "prompt_template": template}
    return as_dataset([row | shared for row in read_rows(read_jsonl(path))], FEATURES)


def read_rows(lines: Iterable[Line]) -> Iterator[dict[str, Any]]:
    """Turn articles into one row for each question.

    Raises:
        DocumentError: For a row that breaks the form.
    """
    articles: dict[str, str] = {}
    for line in lines:
        name = line.text("article_id")
        article = articles.setdefault(
            name, line.text("article")
        )  # one text is kept for all questions about it
        for number, asked in enumerate(line.objects("questions")):
            choices, gold = asked.texts("options"), asked.get("gold_label")
            if len(choices) != len(LETTERS) or gold not in range(1, len(LETTERS) + 1):
                raise asked.fault(
                    f"a question must have 4 options and a 'gold_label' of 1 to 4, got {len(choices)} and {gold!r}; "
                    "use the data with answers"
                )
            yield {
                "doc_id": name,
                "id": f"{line.fields.get('set_unique_id', name)}-{number}",
                "title": line.text("title"),
                "context": article,
                "question": asked.text("question"),
                "options": "\n".join(
                    f"{letter}. {text}" for letter, text in zip(LETTERS, choices, strict=True)
                ),
                "choices": choices,
                "gold": int(str(gold)) - 1,
                "difficult": bool(asked.fields.get("difficult")),
            }


def letter(row: Mapping[str, Any]) -> str:
    """The letter of the right choice."""
    return LETTERS[row["gold"]]


def score_letter(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score a written choice; lm-eval's ``process_results``."""
    chosen = read_choice(results[0], dict(zip(LETTERS, row["choices"], strict=True)))
    return {**_scores(row, chosen == letter(row)), "readable": float(chosen is not None)}


def score_likelihoods(row: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """Score the likeliest choice; lm-eval's ``process_results``.

    ``acc_norm`` takes the one that is likeliest for its length in characters, as lm-eval does.
    """
    likelihoods = [likelihood for likelihood, _ in results]
    for_length = [each / len(text) for each, text in zip(likelihoods, row["choices"], strict=True)]
    best, best_for_length = (side.index(max(side)) for side in (likelihoods, for_length))
    return {**_scores(row, best == row["gold"]), "acc_norm": float(best_for_length == row["gold"])}


def _scores(row: dict[str, Any], right: bool) -> dict[str, Any]:
    withhold_text(row)
    scores = {"documents": row["doc_id"], "acc": float(right)}
    return scores | ({"acc_difficult": float(right)} if row["difficult"] else {})
