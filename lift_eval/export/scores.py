"""The scores of one document in the results of runs, for the card of its adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from lift_eval.errors import counted
from lift_eval.recipe import Recipe
from lift_eval.results.reading import Run, read_runs
from lift_eval.results.samples import LoggedSample


def document_scores(results: Path, recipe: Recipe, digest: str) -> dict[str, str]:
    """What runs with an adapter scored on its document.

    Args:
        results: Folder of results with samples, or a results file.
        recipe: What the adapter was trained by. Runs of recipes that would train another adapter are left out.
        digest: The document's digest.

    Returns:
        Each task and metric, with its score and the number of questions in words.

    Raises:
        ResultsError: If the results cannot be read.
    """
    return dict(
        entry
        for run in read_runs([results])
        if _training_digest(run) == recipe.training_digest
        for entry in _scores(run, digest)
    )


def _training_digest(run: Run) -> str | None:
    """None means that a run has no recipe that this version can read."""
    try:
        return Recipe.model_validate(run.recipe).training_digest if run.recipe else None
    except ValidationError:
        return None


def _scores(run: Run, digest: str) -> Iterator[tuple[str, str]]:
    for task in run.tasks.values():
        for samples in task.samples.values():
            about = [sample for sample in samples if sample.document == digest]
            for metric in dict.fromkeys(name for sample in about for name in sample.scores):
                if task.higher_is_better.get(metric) is not None:
                    yield f"{task.name}, {metric}", _mean(about, metric)


def _mean(samples: Sequence[LoggedSample], metric: str) -> str:
    scores = [sample.scores[metric] for sample in samples if metric in sample.scores]
    total = sum(denominator for _, denominator in scores)
    mean = sum(numerator for numerator, _ in scores) / total if total else 0.0
    return f"{mean:.3f} ({counted(len(scores), 'question')})"
