"""``lift-eval ask``: questions about your own document."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lift_eval.cli.shared import (
    add_form,
    add_model,
    chosen_form,
    named_model,
    note,
    note_bundled_model,
    say,
    uncollected,
)
from lift_eval.document import check_question
from lift_eval.errors import DocumentError

if TYPE_CHECKING:
    from lift_eval.cli.shared import Commands
    from lift_eval.lifter.session import LiftedDocument


def add(commands: Commands) -> None:
    """Add the subcommand."""
    ask = commands.add_parser(
        "ask",
        help="fine-tune your document into an adapter and ask questions about it",
        description="Fine-tunes the document into an adapter and answers the questions. The store keeps the "
        "adapter, so later questions about the document are answered at once. Without questions, the command "
        "prompts for them.",
    )
    ask.add_argument(
        "file", type=Path, metavar="FILE", help="text, Markdown, HTML or PDF; '-' is standard input"
    )
    ask.add_argument("questions", nargs="*", default=[], metavar="QUESTION")
    add_model(ask)
    ask.add_argument("--recipe", help="a shipped recipe's name or a file; 'lift-eval recipes' lists them")
    add_form(ask)
    ask.add_argument(
        "--compare",
        action="store_true",
        help="also show the answer of the model alone, with as much of the document in its prompt as fits",
    )
    ask.set_defaults(work=_ask)


def _ask(parsed: argparse.Namespace) -> int:
    with uncollected():
        from lift_eval.benchmarks.own_documents import STANDARD_INPUT, read_document
        from lift_eval.lifter.lifter import Lifter
        from lift_eval.recipe import default_recipe, load_recipe
        from lift_eval.store import open_store

    if not parsed.questions and str(parsed.file) == STANDARD_INPUT:
        raise DocumentError(
            "the document is read from standard input, so questions must be arguments; give them after '-'"
        )
    for number, question in enumerate(parsed.questions, start=1):
        check_question(question, f"question {number}")
    document = read_document(parsed.file)
    recipe = load_recipe(parsed.recipe or default_recipe(parsed.model), chosen_form(parsed))
    model, store = named_model(parsed), open_store()
    note_bundled_model(model)
    method = recipe.name if recipe.adapter.type == "none" else "LIFT"
    with Lifter.from_pretrained(model, recipe, store=store).lift(document) as session:
        for questions in [parsed.questions] if parsed.questions else _typed_questions():
            _answer(session, questions, method, compare=parsed.compare)
    note(session.record.summary())
    return 0


def _typed_questions() -> Iterator[list[str]]:
    """The questions that a user types, until the end of input; the prompt is shown only on a terminal."""
    prompt = "question (Ctrl-D ends): " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return
        except UnicodeDecodeError as error:
            raise DocumentError(
                f"a question must be text in UTF-8, got byte 0x{error.object[error.start]:02x}"
            ) from error
        if line:
            yield [line]


def _answer(session: LiftedDocument, questions: list[str], method: str, *, compare: bool) -> None:
    """Print each question with its answer, and that of the model alone below."""
    answers = {method: session.answer(questions)}
    if compare:
        with session.base_model() as base:
            answers["model alone"] = base.answer(questions, closed_book=False)
        note(f"model alone: {base.record.kept or 0:.0%} of the document fits in its prompt")
    _show(questions, answers)


def _show(questions: Iterable[str], answers: dict[str, list[str]]) -> None:
    width = max(map(len, answers)) if len(answers) > 1 else 0
    for number, question in enumerate(questions):
        say(question)
        for name, given in answers.items():
            label = f"{name:{width}}  " if width else ""
            say(f"  {label}{given[number] or '(no answer)'}")
    sys.stdout.flush()
