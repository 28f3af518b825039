"""The task ``lift_own``: your own documents and questions, in the prompt of the run's recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from lift_eval.benchmarks.data import Options, as_dataset, choose_prompt, read_options, withhold_text
from lift_eval.benchmarks.loogle import FEATURES, evidence_depth
from lift_eval.benchmarks.metrics.answers import best_scores
from lift_eval.benchmarks.own_questions import OwnRow, own_digest, read_own_rows
from lift_eval.errors import DocumentError
from lift_eval.judging import judge
from lift_eval.prompts.prompt import fill_template
from lift_eval.recipe import default_recipe, load_recipe

TASK = "lift_own"
METRICS = {
    "contained": "contained answer",
    "token_f1": "token F1",
    "rouge_l_recall": "ROUGE-L recall",
    "exact_match": "exact match",
}
"""The task's scores without a judge, and what reports call them."""
OWN_FEATURES = datasets.Features({**FEATURES, "answers": datasets.List(datasets.Value("string"))})


class OwnOptions(Options):
    """What the metadata of a run must and may set.

    Attributes:
        documents: A file, or a folder of files.
        questions: A file of questions; see `own_questions`.
        digest: SHA-256 of the two. None takes whatever is there; other content than named is refused.
    """

    documents: Path
    questions: Path
    digest: str | None = None


def load(**metadata: object) -> dict[str, datasets.Dataset]:
    """Read documents and questions for lm-eval.

    Args:
        **metadata: lm-eval's metadata and model arguments; see `OwnOptions`.

    Raises:
        DocumentError: For documents and questions that cannot be used, or that have changed.
        RecipeError: For an option that cannot be used.
    """
    options = read_options(OwnOptions, metadata)
    style, template = choose_prompt(_templates(metadata), options.prompt_style, metadata)
    rows = read_own_rows(options.documents, options.questions)
    if options.digest not in (None, own_digest(rows)):
        raise DocumentError(
            f"'{options.documents}' and '{options.questions}' have changed since the run was planned; plan the run "
            "again, or leave out the digest"
        )
    shared = {"prompt_style": style, "prompt_template": template}
    shared |= {"judge": options.judge or "", "judged_as": "answer"}
    return as_dataset((row | shared for row in _rows(rows)), OWN_FEATURES)


def _templates(metadata: Mapping[str, object]) -> dict[str, str]:
    """The prompts of the run's recipe, so that questions have the same form as the trained pairs."""
    model, named = metadata.get("pretrained"), metadata.get("recipe")
    changes = {key: value for key, value in metadata.items() if key.partition(".")[0] == "prompt"}
    own = load_recipe(str(named or default_recipe(str(model or ""))), changes).prompt
    return {"recipe": own.template, "closed_book": own.closed_book_template}


def _rows(rows: Sequence[OwnRow]) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        document, asked = row.document, row.asked
        yield {
            "doc_id": document.name,
            "id": str(number),
            "title": document.title,
            "context": document.text,
            "question": asked.question,
            "answer": asked.answers[0],
            "answers": list(asked.answers),
            "type": asked.type or "",
            "evidence": list(asked.evidence),
            "depth": evidence_depth(document.text, asked.evidence),
        }


def prompt(row: Mapping[str, Any]) -> str:
    """Ask a row's question in its recipe's words; lm-eval's ``doc_to_text``."""
    return fill_template(
        row["prompt_template"], title=row["title"], document=row["context"], question=row["question"]
    )


def score(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score a reply against the best of the accepted answers; lm-eval's ``process_results``."""
    withhold_text(row)
    judged = judge.items(row, results[0])
    return {"documents": row["doc_id"], **best_scores(results[0], row["answers"]), **judged}
