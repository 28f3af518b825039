"""``lift-eval compare``: is LIFT better than the model alone, on your own documents and questions?"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lift_eval.cli.shared import (
    add_form,
    add_model,
    bold,
    chosen_form,
    named_model,
    note_bundled_model,
    say,
)
from lift_eval.errors import RecipeError, nearest

if TYPE_CHECKING:
    from lift_eval.benchmarks.own_questions import OwnRow
    from lift_eval.cli.shared import Commands
    from lift_eval.recipe import Recipe
    from lift_eval.reporting.experiment import Experiment

JUDGED = {"judge_accuracy": "judge accuracy"}


def add(commands: Commands) -> None:
    """Add the subcommand."""
    compare = commands.add_parser(
        "compare",
        help="compare LIFT with the model alone on your own documents and questions",
        description="Runs each recipe on the questions, prints a verdict and writes a report. Finished runs are not "
        "repeated.",
    )
    compare.add_argument("documents", type=Path, metavar="FILE_OR_FOLDER", help="text, Markdown, HTML or PDF")
    compare.add_argument(
        "questions",
        type=Path,
        metavar="QUESTIONS",
        help="JSON Lines or CSV with the fields question, answer or answers, and optionally document, evidence, type",
    )
    add_model(compare)
    compare.add_argument(
        "--recipes",
        type=_names,
        metavar="NAME,...",
        help="shipped recipes or files; the first one without an adapter is the baseline (default: the model alone and "
        "LIFT)",
    )
    add_form(compare)
    compare.add_argument(
        "--metric",
        help="score that decides the verdict (default: the judge's if there is a judge, otherwise one that suits "
        "the answers)",
    )
    compare.add_argument(
        "--out",
        type=Path,
        default=Path("comparison"),
        help="folder for runs and report (default: comparison)",
    )
    compare.set_defaults(work=_compare)


def _names(text: str) -> list[str]:
    """Two or more names separated by commas, as an argument's type."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if "" in names or len(names) < 2:
        raise argparse.ArgumentTypeError(f"must be two or more names, separated by commas, got '{text}'")
    return names


def _compare(parsed: argparse.Namespace) -> int:
    from lift_eval.benchmarks.own_questions import read_own_rows
    from lift_eval.cli.runs import run_and_render
    from lift_eval.recipe import baseline_of, default_recipe, load_recipe
    from lift_eval.reporting.verdict import costs, verdicts

    usual = default_recipe(parsed.model)
    names = parsed.recipes or [baseline_of(usual), usual]
    parsed.model = named_model(parsed)
    recipes = {name: load_recipe(name) for name in names}
    rows = read_own_rows(parsed.documents, parsed.questions)
    experiment = _write_experiment(parsed, recipes, rows)
    note_bundled_model(parsed.model)
    status, report = run_and_render(experiment)
    say(report.summary(bold))
    for sentence in verdicts(report.comparison, experiment.columns[0].label):
        say(f"verdict: {sentence}")
    for sentence in costs(report.comparison):
        say(sentence)
    say(f"report: {report.page}")
    return status


def _write_experiment(
    parsed: argparse.Namespace, recipes: dict[str, Recipe], rows: Sequence[OwnRow]
) -> Experiment:
    """Write an experiment file, which ``lift-eval run`` and ``lift-eval report`` also accept."""
    import yaml

    from lift_eval.benchmarks.own import TASK
    from lift_eval.benchmarks.own_questions import own_digest
    from lift_eval.reporting.experiment import load_experiment

    documents = len({row.document.digest for row in rows})
    metadata = {"documents": _place(parsed.documents), "questions": _place(parsed.questions)}
    metadata["digest"] = own_digest(rows)
    reading = [recipe.name for recipe in recipes.values() if recipe.adapter.type == "none"]
    content = {
        "title": f"Questions about {parsed.documents.stem}",
        "description": f"Questions: {len(rows)}. Documents: {documents}.",
        "baseline": (reading or [recipe.name for recipe in recipes.values()])[0],
        "model_args": ({"pretrained": _place(Path(parsed.model))} if parsed.model else {})
        | chosen_form(parsed),
        "rows": [_row(name, recipe, metadata) for name, recipe in recipes.items()],
        "columns": [
            {"label": label, "task": TASK, "metric": metric}
            for metric, label in _metrics(parsed.metric, rows)
        ],
    }
    parsed.out.mkdir(parents=True, exist_ok=True)
    path: Path = parsed.out / "report.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return load_experiment(path)


def _row(name: str, recipe: Recipe, metadata: dict[str, str]) -> dict[str, Any]:
    """A recipe's row; the recipe also decides the form of the questions."""
    options = {"metadata": dict(metadata), "gen_kwargs": {"max_gen_toks": recipe.decoding.max_new_tokens}}
    named = _place(Path(name)) if name.endswith((".yaml", ".yml")) else name
    return {"name": recipe.name, "model_args": {"recipe": named}, "options": options}


def _place(path: Path) -> str:
    """A path as absolute, a name on the Hub unchanged."""
    return str(path.absolute()) if path.exists() else str(path)


def _metrics(named: str | None, rows: Sequence[OwnRow]) -> list[tuple[str, str]]:
    """The scores with their labels, the one that decides first."""
    from lift_eval.benchmarks.own import METRICS
    from lift_eval.benchmarks.own_questions import suited_metric
    from lift_eval.judging import JUDGE_VARIABLE

    judged = JUDGED if os.environ.get(JUDGE_VARIABLE) else {}
    labels = {**judged, **METRICS}
    first = named or next(iter(judged), suited_metric(rows))
    if first not in labels:
        lacking = f"; set {JUDGE_VARIABLE} to name a judge" if first in JUDGED else nearest(first, labels)
        raise RecipeError("--metric", [f"must be a score of the task, got '{first}'{lacking}"])
    return [(first, labels.pop(first)), *labels.items()]
