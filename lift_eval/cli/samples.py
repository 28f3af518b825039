"""``lift-eval samples``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any, NoReturn

from lift_eval.cli.shared import add_model, named_model, say, uncollected
from lift_eval.errors import DocumentError

if TYPE_CHECKING:
    from lift_eval.benchmarks.data import Line
    from lift_eval.cli.shared import Commands
    from lift_eval.document import Document
    from lift_eval.harness.questions import Question
    from lift_eval.lifter.listing import ListedSample
    from lift_eval.prompts.prompt import PromptEncoder
    from lift_eval.recipe import Recipe
    from lift_eval.synthesis.replies import Pair
    from lift_eval.training.contextualized import Windows

CLOSED_BOOK = "closed_book"
"""Name of the prompt that leaves the document out, in the tasks that have one."""
NOT_SUPERVISED = -100
"""Label of a token without a loss, as in torch."""
SHOWN_CHARACTERS = 400
"""Of a text as shown; the middle of a longer one is left out."""

logger = logging.getLogger(__name__)


def add(commands: Commands) -> None:
    """Add the subcommand."""
    samples = commands.add_parser(
        "samples",
        help="show a document's training samples and test prompts before anything is trained",
        description="Prints every training sample and test prompt of a task's document. Supervised text is between "
        "⟦ and ⟧. Weights are loaded only if the store may hold the document's pairs.",
    )
    samples.add_argument("task", metavar="TASK", help="a task of lm-eval or of lift_eval")
    samples.add_argument("--recipe", help="a shipped recipe's name or a file; default: as in a run")
    add_model(samples, " (a tokenizer is enough)")
    samples.add_argument(
        "--document",
        type=_count,
        default=0,
        metavar="N",
        help="number of the document in the task (default: 0, the first)",
    )
    samples.add_argument(
        "--metadata",
        type=_mapping,
        default={},
        metavar="JSON",
        help="options of the task, as in lm-eval's --metadata",
    )
    samples.add_argument(
        "--pairs",
        type=Path,
        metavar="FILE",
        help="JSON Lines with question and answer; default: the pairs in the store",
    )
    samples.add_argument(
        "--windows",
        type=Path,
        metavar="FILE",
        help="JSON Lines with front and back, each a range of the document's tokens, one line per segment; default: "
        "drawn with the recipe's seed",
    )
    samples.add_argument(
        "--json", action="store_true", help="print one JSON object per line, with ids and labels"
    )
    samples.set_defaults(work=_samples)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, got '{text}'")
    return int(text)


def _mapping(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"must be a JSON object, got '{text}'")
    return value


def _samples(parsed: argparse.Namespace) -> int:
    with uncollected():
        from lift_eval.lifter.listing import list_samples
        from lift_eval.recipe import default_recipe, load_recipe
        from lift_eval.training.stages import document_ids

    name = parsed.recipe or default_recipe(parsed.model)
    parsed.model = named_model(parsed)
    recipe = load_recipe(name)
    encoder = _encoder(parsed.model, recipe)
    document, questions = _ask(parsed, {"recipe": name, **parsed.metadata}, recipe, encoder)
    pairs = _pairs(parsed, recipe, document)
    windows = _read_windows(parsed.windows) if parsed.windows else None
    show = _as_json if parsed.json else partial(_as_text, encoder.tokenizer)
    if not parsed.json:
        tokens = len(document_ids(document, recipe, encoder))
        say(
            f"document {parsed.document} of {parsed.task}: {document.name}, {tokens:,} tokens; recipe {recipe.name}\n"
        )
    forms = {question.form for question in questions if question.prompt.places}
    common = [form for form in forms if form is not None] if len(forms) == 1 else []
    for listed in list_samples(document, recipe, encoder, pairs, windows, common):
        sample = listed.sample
        say(show(_describe(listed), sample.context.tolist(), sample.target.tolist()))
    for index, question in enumerate(questions):
        say(show({"kind": "test_prompt", "index": index}, question.ids, None))
    return 0


def _encoder(model: str | None, recipe: Recipe) -> PromptEncoder:
    from lift_eval.models.loading import BUNDLED, context_window, load_config, load_tokenizer
    from lift_eval.prompts.contents.registry import CONTENTS
    from lift_eval.prompts.prompt import PromptEncoder

    source = model or str(BUNDLED)
    tokenizer = load_tokenizer(source, bos=recipe.prompt.bos)
    window = sys.maxsize if _is_tokenizer_alone(model) else context_window(load_config(source), tokenizer)
    encoder = PromptEncoder(tokenizer, recipe.prompt, window)
    encoder.reader = CONTENTS[recipe.prompt.document].reader(recipe.prompt, _unread)
    return encoder


def _unread(_: str) -> NoReturn:
    raise DocumentError(
        "'prompt.document: compressed' reads the document with the base model, which is not loaded here; name a "
        "prompt.compressor, or another prompt.document"
    )


def _is_tokenizer_alone(model: str | None) -> bool:
    """Whether a folder holds no model; then prompts have no window to fit."""
    return model is not None and Path(model).is_dir() and not (Path(model) / "config.json").is_file()


def _ask(
    parsed: argparse.Namespace, metadata: Mapping[str, Any], recipe: Recipe, encoder: PromptEncoder
) -> tuple[Document, list[Question]]:
    """The document and its questions; where pairs are trained closed-book, each question is also asked closed-book."""
    from lm_eval.tasks import TaskManager

    from lift_eval._autoload import task_names, tasks_folder
    from lift_eval.harness.questions import ask, choose_document, load_task, prompt_styles

    def load(**more: str) -> Any:  # noqa: ANN401 - lm-eval's Task
        manager = TaskManager(
            include_path=str(tasks_folder()),
            include_defaults=parsed.task not in task_names(),
            metadata={**metadata, **more},
        )
        return load_task(parsed.task, manager)

    task = load()
    document, rows = choose_document(task, parsed.document)
    questions = ask(task, document, rows, encoder)
    closed_book_too = recipe.auxiliary.trains_closed_book and recipe.prompt.document != "none"
    if not closed_book_too or "prompt_style" in metadata:
        return document, questions
    if CLOSED_BOOK in prompt_styles(task):
        closed_book = ask(load(prompt_style=CLOSED_BOOK), document, rows, encoder)
    else:
        closed_book = [question.without_document() for question in questions]
    return document, list(chain.from_iterable(zip(questions, closed_book, strict=True)))


def _pairs(parsed: argparse.Namespace, recipe: Recipe, document: Document) -> Sequence[Pair]:
    """The document's pairs from the file, else from the store."""
    from lift_eval.lifter.lifter import Lifter
    from lift_eval.store import Pairs, open_store

    if recipe.auxiliary.strategy == "none" or not recipe.trains:
        return ()
    if parsed.pairs:
        return _read_pairs(parsed.pairs)
    store = open_store()
    may_have = store is not None and any(entry.kind == Pairs.kind for entry in store.entries())
    if may_have and not _is_tokenizer_alone(parsed.model):
        kept = Lifter.from_pretrained(parsed.model, recipe, store=store).kept_pairs(document)
        if kept is not None:
            return kept
    logger.warning("the store has no pairs of this document, so no pairs are shown; name a file with --pairs")
    return ()


def _read_pairs(path: Path) -> list[Pair]:
    from lift_eval.synthesis.replies import Pair

    return [Pair(line.text("question"), line.text("answer")) for line in _lines(path)]


def _read_windows(path: Path) -> list[Windows]:
    return [(_range(line, "front"), _range(line, "back")) for line in _lines(path)]


def _lines(path: Path) -> Iterator[Line]:
    from lift_eval.benchmarks.data import read_jsonl

    if not path.is_file():
        raise DocumentError(f"{path} is not a file; name a JSON Lines file")
    return read_jsonl(path)


def _range(line: Line, name: str) -> slice:
    value = line.get(name)
    if not isinstance(value, list) or [type(end) for end in value] != [int, int]:
        raise line.fault(f"'{name}' must be a range of tokens, such as [0, 512], got {value!r}")
    return slice(*value)


def _describe(listed: ListedSample) -> dict[str, Any]:
    """What a training sample is, and where it lies in the document."""
    front, back = listed.windows or (None, None)
    ranges = {"segment": listed.segment, "front": front, "back": back, "teacher": listed.teacher}
    places = {name: [span.start, span.stop] for name, span in ranges.items() if span is not None}
    return {"kind": listed.kind, "index": listed.index, **places}


def _as_json(what: Mapping[str, Any], read: list[int], learned: list[int] | None) -> str:
    labels = None if learned is None else [NOT_SUPERVISED] * len(read) + learned
    return json.dumps({**what, "ids": read + (learned or []), "labels": labels})


def _as_text(tokenizer: Any, what: Mapping[str, Any], read: list[int], learned: list[int] | None) -> str:  # noqa: ANN401
    """A heading, and the text below it."""
    ranges = ("segment", "front", "back", "teacher")
    facts = [f"{name} {what[name][0]}-{what[name][1]}" for name in ranges if name in what]
    facts.append(f"{len(read) + len(learned or []):,} tokens")
    text = _abbreviate(tokenizer.decode(read))
    if learned is not None:
        facts.append(f"{len(learned):,} supervised")
        text += f"⟦{_abbreviate(tokenizer.decode(learned))}⟧"
    return f"{what['kind']} {what['index']}: {', '.join(facts)}\n{indent(text, '    ')}\n"


def _abbreviate(text: str) -> str:
    """A text without its middle if it is long."""
    if len(text) <= SHOWN_CHARACTERS:
        return text
    half = SHOWN_CHARACTERS // 2
    return f"{text[:half]} [... {len(text) - 2 * half:,} characters ...] {text[-half:]}"
